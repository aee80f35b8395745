"""The loop of a child with threads: the main thread reads, and a pool of threads runs sync handlers.

Owns: the threads, and waiting for a reply in one of them. Never: async handlers (`loop_async`).
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from .errors import Cancelled
from .link import Link, value_of
from .wire import Message

if TYPE_CHECKING:
    from .context import AnyContext
    from .handler import Runnable


class ThreadLink(Link):
    """A child with at most `threads` threads for handlers. They are started when they are needed, and kept."""

    def __init__(self, *arguments: Any, threads: int) -> None:
        super().__init__(*arguments)
        self._most = threads
        self._started = 0
        self._queue: SimpleQueue[tuple[AnyContext, Runnable]] = SimpleQueue()
        self._writing = threading.Lock()

    def loop(self) -> None:
        """Reads until the stream ends."""
        reader, take = self._reader, self.take
        while True:
            take(reader.next())

    def begin(self, context: AnyContext, work: Runnable) -> None:
        self._queue.put((context, work))
        if self._started < self._most and self._started < len(self._works):
            self._started += 1
            threading.Thread(target=self._work, name=f"pagewire-{self._started}", daemon=True).start()

    def _work(self) -> None:
        get, start, perform = self._queue.get, self.start, self.perform
        while True:
            context, work = get()
            if start(context):
                try:
                    perform(context, work)
                except OSError as error:  # the supervisor has gone
                    self.closed(error)

    def send(self, data: bytes) -> None:
        with self._writing:
            self._sock.sendall(data)

    def ask(self, context: AnyContext, method: str, params: Any) -> Any:
        replies: list[Message | None] = []
        arrived = threading.Lock()
        arrived.acquire()

        def settle(reply: Message | None) -> None:
            replies.append(reply)
            arrived.release()

        number = self.post(context, method, params, settle)
        if context._open is None:
            context._open = set()
        context._open.add(number)
        if context._reason is not None and not context._delivered:
            self.interrupt(context)  # the cancel came before the request was known
        arrived.acquire()
        context._open.discard(number)
        reply = replies[0]
        if reply is None:
            context._delivered = True
            raise Cancelled(context._reason or "cancelled")
        return value_of(reply)
