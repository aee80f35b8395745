"""The scope of an ASGI application behind Pagewire.

Owns: address, scheme and mount point of a request, and when the application has started. Never: what it does with a
request.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable


class MountedApplication:
    """An ASGI application that sees its client instead of Pagewire.

    The headers are those of Pagewire, which removes what a client sends under these names. `ready` is called once, when
    the application has started.
    """

    __slots__ = ("_application", "_ready", "_root_path")

    def __init__(self, application: Callable[..., Awaitable[None]], root_path: str, ready: Callable[[], None]) -> None:
        self._application = application
        self._root_path = root_path
        self._ready = ready

    def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._lifespan(scope, receive, send)
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                scope["client"] = (value.decode("latin-1"), 0)
            elif name == b"x-forwarded-proto" and value in (b"http", b"https"):
                web_socket = scope["type"] == "websocket"
                scope["scheme"] = (value.replace(b"http", b"ws") if web_socket else value).decode()
        if self._root_path:
            # the path of a scope is whole: it begins with the root path
            scope["root_path"] = self._root_path
        return self._application(scope, receive, send)

    async def _lifespan(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Runs the start and the end of the application. One that raises instead has no lifespan, and is ready."""
        ended: list[str] = []

        async def sent(message: dict[str, Any]) -> None:
            ended.append(message["type"])
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._ready()

        try:
            await self._application(scope, receive, sent)
        except Exception:
            if ended:
                raise
            await sent({"type": "lifespan.startup.complete"})
            await receive()
            await sent({"type": "lifespan.shutdown.complete"})
