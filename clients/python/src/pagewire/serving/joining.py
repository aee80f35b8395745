"""The child wire of a process that serves HTTP, in a thread beside the server.

Owns: saying that the process is ready, and ending it when the supervisor asks for it. Never: requests of HTTP.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Callable

from ..errors import BrokenWire
from ..loop_threads import ThreadLink
from ..runtime import identity, introduce
from ..wire import frame
from .command import Start

BACKLOG = 2048
"""Connections that may wait for the server: more than there are requests at a time."""

_PAUSE = 0.005
"""Seconds between two looks at whether a server accepts connections."""


def join(start: Start, stop: Callable[[], None]) -> None:
    """Says `ready` to the supervisor, and calls `stop` when it asks for the end.

    The HTTP socket has to be bound, and the application imported.
    """
    message = identity(start.token)
    message["slots"] = start.threads
    message["features"] = ["http"]
    message["methods"] = []
    sock, reader, welcome = introduce(start.wire, frame(message))
    link = ThreadLink(sock, reader, welcome, {}, threads=1)
    threading.Thread(target=_follow, args=(link, stop), name="pagewire", daemon=True).start()


def join_when_listening(start: Start, stop: Callable[[], None]) -> None:
    """Joins as soon as the server accepts connections, for a server that imports the application before that."""

    def wait() -> None:
        while not _accepts(start.http):
            time.sleep(_PAUSE)
        join(start, stop)

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
