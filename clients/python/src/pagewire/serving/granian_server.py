"""granian: one process that serves, below one of granian that watches it.

Owns: the settings of granian, and which of its processes joins the supervisor. Never: reload and recycling.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable

from .command import Start, load

_LONG_MS = 86_400_000
"""How long an idle connection stays open: Pagewire closes it, so that no request meets its end."""

_WAKING = signal.SIGURG
"""The signal that wakes the main thread. It ends no process that has no handler for it."""
_WAKE_EVERY = 0.05


def serve(start: Start, interface: str) -> None:
    """Serves an application until the supervisor asks for the end."""
    granian = load("granian")
    constants, http = load("granian.constants"), load("granian.http")
    mask = os.umask(0o177)  # for the socket; the process that serves sets it back
    settings: dict[str, Any] = {
        "uds": Path(start.http),
        "interface": constants.Interfaces(interface),
        "workers": 1,
        "http": constants.HTTPModes("1"),
        "http1_settings": http.HTTP1Settings(header_read_timeout=_LONG_MS),
        "websockets": interface == "asgi",
        "log_level": load("granian.log").LogLevels("warning"),
        "backlog": 2048,
        "backpressure": 2048,
    }
    if interface == "wsgi":
        settings["blocking_threads"] = start.threads
    server = granian.Granian(start.target, **settings)
    server.serve(target_loader=partial(_load, start, interface, mask), wrap_loader=False)


def _load(start: Start, interface: str, mask: int) -> Any:
    """Returns the application, in the process that serves. granian listens on the socket after this."""
    os.umask(mask)
    from .joining import Joining

    application = start.application()
    joining = Joining(start)
    stop = _stopper(os.getppid())

    def ready() -> None:
        joining.join_when_listening(stop)

    if interface == "asgi":
        from . import asgi_scope

        return asgi_scope.MountedApplication(application, start.script_name, ready)
    from . import wsgi_environ

    ready()
    return wsgi_environ.MountedApplication(application, start.script_name)


def _stopper(above: int) -> Callable[[], None]:
    """Returns a function that asks granian for the end of this process. Must be called in the main thread.

    The SIGTERM of granian may arrive in any thread. Python handles it in the main thread, which waits without a
    time-out and would never do so: it is woken until the process has ended.
    """
    signal.signal(_WAKING, lambda *_: None)
    main = threading.get_ident()

    def wake() -> None:
        while True:
            signal.pthread_kill(main, _WAKING)
            time.sleep(_WAKE_EVERY)

    def stop() -> None:
        threading.Thread(target=wake, name="pagewire-end", daemon=True).start()
        os.kill(above, signal.SIGTERM)

    return stop
