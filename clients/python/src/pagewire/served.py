"""The process that serves a web application, and its side of the child wire.

Owns: whether this process can make requests, and waiting for their replies in any thread. Never: what is requested
(`web`).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Callable, Protocol

from .errors import Error
from .link import value_of

if TYPE_CHECKING:
    from .loop_threads import ThreadLink
    from .web import WebClient
    from .wire import Message

_PATIENCE = 30.0
"""The seconds for which a thread waits until its process has joined Pagewire."""


class Way(Protocol):
    """How the requests of a client reach a server."""

    def link(self) -> Any:
        """Returns the wire, as locks and lines of the log use it."""

    def ask(self, client: WebClient, method: str, params: Any) -> Any:
        """Sends a request and waits for its value."""

    @property
    def is_open(self) -> bool:
        """Whether requests can be made now."""


class Served:
    """The process that serves a web application, and its side of the child wire."""

    def __init__(self) -> None:
        self._joined = threading.Event()
        self._link: ThreadLink | None = None
        self._reader: threading.Thread | None = None
        self._waiting: set[Callable[[Message | None], Any]] = set()
        self._has_left = False
        self._pid = 0
        self._importing: int | None = None

    @property
    def is_expected(self) -> bool:
        """Whether this process serves an application, or was forked by one that does."""
        return self._pid != 0

    @property
    def is_open(self) -> bool:
        """Whether requests can be made: not while the application is imported, and not in a forked process."""
        return self._joined.is_set() and self.is_here

    @property
    def is_here(self) -> bool:
        """Whether this process serves an application itself."""
        return self._pid == os.getpid()

    def expect(self) -> None:
        """Notes that this process is going to serve. The thread that calls this imports the application."""
        self._pid = os.getpid()
        self._importing = threading.get_ident()

    def join(self, link: ThreadLink, reader: threading.Thread) -> None:
        """Begins to make requests. Their replies are read in the thread `reader`."""
        self._link, self._reader = link, reader
        self._joined.set()

    def leave(self) -> None:
        """Ends all requests, because nothing reads their replies any more."""
        self._has_left = True
        for settle in list(self._waiting):
            settle(None)

    def link(self) -> ThreadLink:
        """Returns the wire.

        Raises Error in a forked process, in the thread that reads, and if the process does not join in time.
        """
        if not self.is_here:
            text = "this process was forked from the one that serves, which alone has the wire: use pagewire.connect"
            raise Error("unsupported", text)
        if threading.current_thread() is self._reader:
            text = "an async handler makes its requests with its context: this one would wait for itself"
            raise Error("unsupported", text)
        if not self._joined.is_set():
            if self._importing == threading.get_ident():
                raise Error("unavailable", "no request can be made while the application is imported", True)
            self._joined.wait(_PATIENCE)
        if self._link is None or self._has_left:
            raise _ended()
        return self._link

    def ask(self, client: WebClient, method: str, params: Any) -> Any:
        """Sends a request and waits for its value."""
        link = self.link()
        replies: list[Message | None] = []
        arrived = threading.Event()

        def settle(reply: Message | None) -> None:
            replies.append(reply)
            arrived.set()

        self._waiting.add(settle)
        try:
            if self._has_left:
                raise _ended()
            link.post(client, method, params, settle)  # type: ignore[arg-type]
            arrived.wait()
        except OSError:
            raise _ended() from None
        finally:
            self._waiting.discard(settle)
        reply = replies[0]
        if reply is None:
            raise _ended()
        return value_of(reply)


def _ended() -> Error:
    return Error("unavailable", "this process has no connection to Pagewire, because it starts or ends", True)


served = Served()
