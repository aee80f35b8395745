"""The loop of a child with one thread: it reads a message and runs its handler in place.

Owns: one handler at a time, in the thread that reads. Never: async handlers.

This is the fastest way to answer a call, because no other thread has to wake up. While a handler waits for the reply of
a request, the loop reads on: it sees a cancel, answers pings, and keeps other work for later. A second thread reads in
its place while a handler runs for long without a request or check.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from .errors import BrokenWire, Cancelled
from .link import Link, value_of
from .wire import Message

if TYPE_CHECKING:
    from .context import AnyContext
    from .handler import Runnable


_WATCH = 1.0
"""The seconds after which another thread reads while a handler runs."""


class BlockingLink(Link):
    """A child without threads. A thread that a handler starts may use the context as well."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._queue: deque[tuple[AnyContext, Runnable]] = deque()
        self._current: AnyContext | None = None
        self._reading = threading.RLock()
        self._writing = threading.RLock()

    def loop(self) -> None:
        """Reads and runs until the stream ends."""
        threading.Thread(target=self._watch, name="pagewire-watch", daemon=True).start()
        queue, reader, reading, take = self._queue, self._reader, self._reading, self.take
        while True:
            while queue:
                context, work = queue.popleft()
                if self.start(context):
                    self._current = context
                    self.perform(context, work)
                    self._current = None
            with reading:
                if not queue:  # another thread may have read meanwhile
                    take(reader.next())

    def _watch(self) -> None:
        """Reads while one handler runs for long: it sees the end of the supervisor, and answers pings."""
        while True:
            before = self._current
            time.sleep(_WATCH)
            if before is not None and before is self._current:
                self.poll()

    def begin(self, context: AnyContext, work: Runnable) -> None:
        self._queue.append((context, work))

    def send(self, data: bytes) -> None:
        with self._writing:
            self._sock.sendall(data)

    def poll(self) -> None:
        """Reads what has arrived."""
        # another thread that reads now will see the cancel
        if self._reading.acquire(blocking=False):
            try:
                self.take_buffered()
                while self._reader.receive(socket.MSG_DONTWAIT):
                    self.take_buffered()
            except (EOFError, BrokenWire, OSError) as error:
                self.closed(error)
            finally:
                self._reading.release()

    def ask(self, context: AnyContext, method: str, params: Any) -> Any:
        replies: list[Message | None] = []
        with self._reading:
            number = self.post(context, method, params, replies.append)
            while not replies:
                self._take_next()
                if context._reason is not None and not context._delivered and not replies:
                    self._pending.pop(number, None)
                    replies.append(None)
        reply = replies[0]
        if reply is None:
            context._delivered = True
            raise Cancelled(context._reason or "cancelled")
        return value_of(reply)

    def _take_next(self) -> None:
        """Handles the next message while a handler waits, which must not see the end of the stream as its own error."""
        try:
            self.take(self._reader.next())
        except (EOFError, BrokenWire) as error:
            self.closed(error)
