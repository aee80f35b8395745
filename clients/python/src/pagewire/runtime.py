"""The start of a child: it connects, introduces itself, and chooses its loop.

Owns: `ready`, `welcome` and the choice of the loop. Never: what happens after that (`link` and the loops).
"""

from __future__ import annotations

import io
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import BrokenWire
from .link import run
from .wire import LIMIT, FrameReader, Message, frame

if TYPE_CHECKING:
    from .app import App
    from .loop_blocking import BlockingLink
    from .loop_threads import ThreadLink


def serve(app: App) -> None:
    """Runs the handlers until the supervisor ends this child. Exits with 1 if the child cannot start."""
    buffer_lines()
    # removed, so that programs that a handler starts are not taken for this child
    path, token = os.environ.pop("PAGEWIRE_SOCKET"), os.environ.pop("PAGEWIRE_TOKEN", "")
    try:
        introduction = frame(ready(app, token))
    except TypeError as error:  # a type hint that JSON cannot be checked against
        sys.exit(f"pagewire: {error}")
    sock, reader, welcome = introduce(path, introduction)
    link = choose(app, (sock, reader, welcome, app.handlers, app.residents))
    run(link, link.loop)


def introduce(path: str, introduction: bytes) -> tuple[socket.socket, FrameReader, Message]:
    """Connects to the supervisor and sends `ready`. Returns the socket, its reader and `welcome`. Exits with 1 if it is
    refused.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    reader = FrameReader(sock)
    try:
        sock.connect(path)
        sock.sendall(introduction)
        welcome = reader.next()
    except EOFError:
        sys.exit("pagewire: the supervisor has closed the socket before its welcome")
    except (OSError, BrokenWire) as error:
        sys.exit(f"pagewire: no connection to the supervisor: {error}")
    if welcome["t"] != "welcome" or welcome.get("protocol", 1) != 1:
        sys.exit(f"pagewire: this package speaks the version 1 of the child wire, the supervisor answered {welcome}")
    return sock, reader, welcome


def identity(token: str) -> Message:
    """Returns the members of `ready` that every child sends."""
    message: Message = {"t": "ready", "protocol": [1], "token": token, "pid": os.getpid()}
    message["sdk"] = f"python/{__version__}"
    return message


def ready(app: App, token: str) -> Message:
    """Returns the first message of a child."""
    message = identity(token)
    slots = slots_of(app)
    if slots is not None:
        message["slots"] = slots
    describe(app, message)
    return message


def describe(app: App, message: Message) -> None:
    """Adds the handlers and classes of pages of an application to `ready`."""
    message["methods"] = [handler.describe() for handler in app.handlers.values()]
    if app.pages:
        message["pages"] = [page_class.describe() for page_class in app.pages.values()]
    if len(str(message)) > LIMIT // 2:  # schemas and documentation are for people
        for described in (message, *message.get("pages", ())):
            for method in described["methods"]:
                method.pop("schema", None)
                method.pop("returns", None)
                method.pop("doc", None)


def slots_of(app: App) -> int | None:
    """Returns how much work the child asks for. Sync handlers in one thread wait for each other, so it asks for one."""
    if app.slots is None and app.threads == 1 and not _has_async(app):
        return 1
    return app.slots


def choose(app: App, parts: tuple[Any, ...], is_shared: bool = False) -> ThreadLink | BlockingLink:
    """Returns the loop for the handlers of an application. `is_shared`: other threads make requests as well."""
    slots = max(1, int(parts[2].get("slots") or app.slots or 1))
    threads = app.threads or slots
    if _has_async(app):
        from .loop_async import AsyncLink

        return AsyncLink(*parts, threads=threads)
    if threads == 1 and not is_shared:
        from .loop_blocking import BlockingLink

        return BlockingLink(*parts)
    from .loop_threads import ThreadLink

    return ThreadLink(*parts, threads=threads)


def _has_async(app: App) -> bool:
    has_async = any(handler.is_async for handler in app.handlers.values())
    return has_async or any(page_class.is_async for page_class in app.pages.values())


def buffer_lines() -> None:
    """Makes each line that a handler prints appear in the log at once."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
