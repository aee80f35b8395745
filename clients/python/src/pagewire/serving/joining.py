"""The child wire of a process that serves HTTP, in a thread beside the server.

Owns: saying that the process is ready, running handlers and pages in it, and ending it when the supervisor asks for it.
Never: requests of HTTP.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from typing import Any, Callable, cast

from ..app import App
from ..errors import BrokenWire
from ..loop_threads import ThreadLink
from ..runtime import choose, describe, identity, introduce
from ..served import served
from ..wire import frame
from .command import Start

BACKLOG = 2048
"""Connections that may wait for the server: more than there are requests at a time."""

_PAUSE = 0.005
"""Seconds between two looks at whether a server accepts connections."""


class Joining:
    """A process that serves, before it joins its supervisor.

    It is made when the web application has been imported. It imports the handlers and pages that the process runs as
    well, and exits with 1 and the reason if this fails.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._app = App()
        if start.app:
            from ..__main__ import find

            self._app = find(start.app)
        message = identity(start.token)
        message["slots"] = start.threads
        message["features"] = ["http"]
        try:
            describe(self._app, message)
        except TypeError as error:  # a type hint that JSON cannot be checked against
            sys.exit(f"pagewire: {error}")
        self._introduction = frame(message)

    def join(self, stop: Callable[[], None]) -> None:
        """Says `ready` to the supervisor, and calls `stop` when it asks for the end.

        The HTTP socket has to be bound.
        """
        parts = introduce(self._start.wire, self._introduction)
        link = self._link((*parts, self._app.handlers, self._app.residents))
        reader = threading.Thread(target=_follow, args=(link, stop), name="pagewire", daemon=True)
        served.join(link, reader)
        reader.start()

    def _link(self, parts: tuple[Any, ...]) -> ThreadLink:
        if not self._start.app:
            return ThreadLink(*parts, threads=1)
        return cast(ThreadLink, choose(self._app, parts, is_shared=True))

    def join_when_listening(self, stop: Callable[[], None]) -> None:
        """Joins as soon as the server accepts connections, for a server that imports the application before that."""

        def wait() -> None:
            while not _accepts(self._start.http):
                time.sleep(_PAUSE)
            self.join(stop)

        threading.Thread(target=wait, name="pagewire-start", daemon=True).start()


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _follow(link: ThreadLink, stop: Callable[[], None]) -> None:
    try:
        link.loop()
    except (EOFError, BrokenWire, OSError) as error:
        link.closed(error)  # returns only if the supervisor has asked for the end
    served.leave()
    stop()


def interrupt_main() -> None:
    """Asks the server in the main thread of this process to end, as SIGTERM does."""
    number = threading.main_thread().ident
    if number is not None:
        signal.pthread_kill(number, signal.SIGTERM)


def bind(path: str) -> socket.socket:
    """Returns a listening Unix socket that only this user can connect to."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    sock.listen(BACKLOG)
    return sock
