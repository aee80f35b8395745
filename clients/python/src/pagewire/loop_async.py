"""The loop of a child with async handlers: an event loop in the main thread, and a pool of threads for sync handlers.

Owns: the tasks of async handlers, and writing to the socket without blocking. Never: the threads (`loop_threads`).
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Coroutine

from . import outcome
from .errors import BrokenWire
from .link import value_of
from .loop_threads import ThreadLink
from .wire import Message

if TYPE_CHECKING:
    from .context import AnyContext
    from .handler import Runnable

_OPEN_REQUESTS = 240
"""The most requests of async handlers at a time. The supervisor refuses more than 256 of a child."""


class AsyncLink(ThreadLink):
    """A child with an event loop in its main thread."""

    def __init__(self, *arguments: Any, threads: int) -> None:
        super().__init__(*arguments, threads=threads)
        self._backlog: deque[bytes] = deque()
        self._loop: asyncio.AbstractEventLoop
        self._gate: asyncio.Semaphore
        self._end: asyncio.Future[None]

    def loop(self) -> None:
        """Runs the event loop until the stream ends."""
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._gate = asyncio.Semaphore(_OPEN_REQUESTS)
        self._end = self._loop.create_future()
        self._loop.add_reader(self._sock, self._readable)
        self._readable()  # what came with `welcome`
        try:
            await self._end
        finally:
            self._loop.remove_reader(self._sock)
            with self._writing:
                while self._backlog:
                    self._sock.sendall(self._backlog.popleft())

    def _readable(self) -> None:
        try:
            self.take_buffered()
            # one read for each turn of the loop, so that tasks run in between
            if self._reader.receive(socket.MSG_DONTWAIT):
                self.take_buffered()
        except (EOFError, BrokenWire, OSError) as error:
            if isinstance(error, EOFError) and self.ending and not self._works:
                if not self._end.done():
                    self._end.set_result(None)
            else:
                self.closed(error)

    def begin(self, context: AnyContext, work: Runnable) -> None:
        if not work.is_async:
            super().begin(context, work)
            return
        context._task = _task(self._perform_async(context, work), self._loop)

    async def _perform_async(self, context: AnyContext, work: Runnable) -> None:
        if not self.start(context):
            return
        try:
            data = outcome.result(context, await work.run(context), self.limit)
        except BaseException as error:
            data = outcome.failure(context, error)
        self.end(context, data)

    def interrupt(self, context: AnyContext) -> None:
        if context._task is None:
            super().interrupt(context)
        elif not self.drop(context):
            context._delivered = True
            context._task.cancel()

    async def ask_async(self, context: AnyContext, method: str, params: Any) -> Any:
        future: asyncio.Future[Message] = self._loop.create_future()

        def settle(reply: Message | None) -> None:
            if reply is not None and not future.done():
                future.set_result(reply)

        async with self._gate:
            number = self.post(context, method, params, settle)
            try:
                return value_of(await future)
            finally:
                self._pending.pop(number, None)

    def send(self, data: bytes) -> None:
        with self._writing:
            if not self._backlog:
                try:
                    sent = self._sock.send(data, socket.MSG_DONTWAIT)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                if sent == len(data):
                    return
                data = data[sent:]
                self._loop.call_soon_threadsafe(self._loop.add_writer, self._sock, self._writable)
            self._backlog.append(data)

    def _writable(self) -> None:
        with self._writing:
            while self._backlog:
                data = self._backlog.popleft()
                try:
                    sent = self._sock.send(data, socket.MSG_DONTWAIT)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError as error:
                    self.closed(error)
                    return
                if sent < len(data):
                    self._backlog.appendleft(data[sent:])
                    return
            self._loop.remove_writer(self._sock)


if sys.version_info >= (3, 12):

    def _task(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Starts a task at once: a handler that does not wait ends without a turn of the loop."""
        return asyncio.Task(coroutine, loop=loop, eager_start=True)

else:

    def _task(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        return loop.create_task(coroutine)
