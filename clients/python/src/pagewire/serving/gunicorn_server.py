"""gunicorn: its worker with threads, in this process and without its arbiter, because the supervisor does that work.

Owns: the settings of the worker. Never: reload, recycling and time-outs, which the supervisor has.
"""

from __future__ import annotations

import os
from typing import Any

from .command import Start, load
from .joining import Joining, bind, interrupt_main
from .wsgi_environ import MountedApplication

_LONG = 86_400
"""Seconds for which an idle connection stays open: Pagewire closes it, so that no request meets its end."""


def serve(start: Start) -> None:
    """Serves a WSGI application until the supervisor asks for the end."""
    base = load("gunicorn.app.base")
    worker_module = load("gunicorn.workers.gthread")
    application = MountedApplication(start.application(), start.script_name)
    app = _hosted(base.BaseApplication, application, start, Joining(start))
    if hasattr(worker_module, "STOP_KEEPALIVE_LINGER"):
        # no request is on its way when the supervisor asks for the end
        worker_module.STOP_KEEPALIVE_LINGER = 0.0
    sock = bind(start.http)
    log = app.cfg.logger_class(app.cfg)
    worker = worker_module.ThreadWorker(1, os.getppid(), [sock], app, 0, app.cfg, log)
    worker.init_process()


def _hosted(base: Any, application: Any, start: Start, joining: Joining) -> Any:
    settings = {
        "workers": 1,
        "threads": start.threads,
        "worker_class": "gthread",
        # more than the supervisor ever opens: each request at a time has one, and some are kept
        "worker_connections": max(1000, 4 * start.threads),
        "keepalive": _LONG,
        "timeout": 0,
        "graceful_timeout": _LONG,
        "max_requests": 0,
        "accesslog": None,
        "errorlog": "-",
        "forwarded_allow_ips": "*",
        # a header cannot set a variable of the environment
        "forwarder_headers": "",
        "post_worker_init": lambda worker: joining.join(interrupt_main),
    }

    class Hosted(base):  # type: ignore[misc]
        """The application and the settings, as gunicorn asks for them."""

        def load_config(self) -> None:
            for name, value in settings.items():
                if name in self.cfg.settings:  # some have been added by later versions
                    self.cfg.set(name, value)

        def load(self) -> Any:
            return application

    return Hosted()
