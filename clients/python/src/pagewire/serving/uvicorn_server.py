"""uvicorn: one process that serves.

Owns: the settings of uvicorn. Never: reload and recycling, which the supervisor has.
"""

from __future__ import annotations

from .asgi_scope import MountedApplication
from .command import Start, load
from .joining import Joining, bind

_LONG = 86_400
"""Seconds for which an idle connection stays open: Pagewire closes it, so that no request meets its end."""


def serve(start: Start) -> None:
    """Serves an ASGI application until the supervisor asks for the end."""
    uvicorn = load("uvicorn")

    def stop() -> None:
        server.should_exit = True

    application = start.application()
    joining = Joining(start)
    mounted = MountedApplication(application, start.script_name, lambda: joining.join(stop))
    config = uvicorn.Config(
        mounted,
        interface="asgi3",
        lifespan="on",
        proxy_headers=False,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=_LONG,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[bind(start.http)])
