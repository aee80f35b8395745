"""What the three loops share: the socket, the works of the child, its requests, and its end.

Owns: the meaning of the supervisor's messages, except where a handler runs. Never: threads and the event loop.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Callable

from . import outcome
from .context import AsyncContext, Context
from .errors import BrokenWire, Error, error_of
from .page_work import forget, work_of
from .wire import LIMIT, FrameReader, Message, encode, frame, pack

if TYPE_CHECKING:
    from .context import AnyContext
    from .handler import Handler, Runnable
    from .resident import Residents

Settle = Callable[["Message | None"], Any]
"""Receives the reply of a request, or None if the work was cancelled while it waited."""

PONG = frame({"t": "pong"})


class Link:
    """A child's side of the wire."""

    def __init__(
        self,
        sock: socket.socket,
        reader: FrameReader,
        welcome: Message,
        handlers: dict[str, Handler],
        residents: Residents | None = None,
    ) -> None:
        self.welcome = welcome
        self.limit = min(int(welcome.get("max_frame", LIMIT)), LIMIT)
        self.ending = False
        self._sock = sock
        self._reader = reader
        self._handlers = handlers
        self._residents = residents
        self._works: dict[int, AnyContext] = {}
        self._pending: dict[int, Settle] = {}
        self._ids = itertools.count(1)
        self._terminated = False
        self._claim = threading.Lock()
        os.register_at_fork(after_in_child=sock.close)

    # what a context calls

    def now(self) -> float:
        return time.monotonic()

    def send(self, data: bytes) -> None:
        """Sends a frame whole, from any thread."""
        raise NotImplementedError

    def poll(self) -> None:
        """Reads what has arrived, where no other thread does it."""

    def ask(self, context: AnyContext, method: str, params: Any) -> Any:
        """Sends a request and waits for its value."""
        raise NotImplementedError

    async def ask_async(self, context: AnyContext, method: str, params: Any) -> Any:
        """Sends a request of an async handler and waits for its value."""
        raise NotImplementedError

    def post(self, context: AnyContext, method: str, params: Any, settle: Settle) -> int:
        """Sends a request from any thread. `settle` is called with the reply, by the thread that reads it."""
        number = next(self._ids)
        data = self.request(context, number, method, params)
        self._pending[number] = settle
        try:
            self.send(data)
        except BaseException:
            self._pending.pop(number, None)
            raise
        return number

    def request(self, context: AnyContext, number: int, method: str, params: Any) -> bytes:
        """Returns the frame of a request.

        Raises Error if the parameters are not JSON or do not fit into a frame.
        """
        try:
            # without work it is made in the name of the web application of this process
            work = b"" if context._id is None else b'"work":%d,' % context._id
            body = b'{"t":"request","id":%d,%b"method":"%b","params":%b}' % (
                number,
                work,
                method.encode(),
                encode(params),
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise Error("malformed", f"the parameters of {method} are not JSON: {error}") from None
        if len(body) > self.limit:
            raise Error("too_large", f"the request {method} has {len(body)} bytes; at most {self.limit} are possible")
        return pack(body)

    # what the supervisor sends

    def take(self, message: Message) -> None:
        """Handles a message of the supervisor."""
        kind = message["t"]
        if kind == "call" or kind == "job":
            self._accept(message)
        elif (kind == "rpc" or kind == "page") and self._residents is not None:
            self._accept_page(message, self._residents)
        elif kind == "reply":
            settle = self._pending.pop(message.get("id", -1), None)
            if settle is not None:
                settle(message)
        elif kind == "cancel":
            self._cancel(message)
        elif kind == "ping":
            self.send(PONG)
        elif kind == "drain":
            self.ending = True
            self._finish_if_idle()
        elif kind != "welcome" and type(message.get("id")) is int:
            text = f"this child does not know the message `{kind[:40]}`"
            self.send(outcome.refused(message["id"], "unsupported", text))

    def take_buffered(self) -> None:
        """Handles the messages that have been received whole."""
        message = self._reader.buffered()
        while message is not None:
            self.take(message)
            message = self._reader.buffered()

    def begin(self, context: AnyContext, work: Runnable) -> None:
        """Runs a piece of work, now or later."""
        raise NotImplementedError

    def _accept(self, message: Message) -> None:
        number, method = message.get("id"), message.get("method")
        if type(number) is not int or type(method) is not str:
            raise BrokenWire(f"a {message['t']} without id or method")
        if self.ending:
            self.send(_not_begun(message))
            return
        handler = self._handlers.get(method)
        if handler is None:
            self.send(outcome.refused(number, "no_executor", self._unknown(method), True))
            return
        self._take_on(message, handler)

    def _accept_page(self, message: Message, residents: Residents) -> None:
        if type(message.get("id")) is not int:
            raise BrokenWire(f"a message `{message['t']}` without id")
        if self.ending:
            self.send(_not_begun(message))
            return
        try:
            work = work_of(residents, message)
        except Error as error:
            self.send(outcome.refused(message["id"], error.code, error.message, error.retryable))
            return
        self._take_on(message, work)

    def _take_on(self, message: Message, work: Runnable) -> None:
        context = AsyncContext(self, message) if work.is_async else Context(self, message)
        self._works[message["id"]] = context
        self.begin(context, work)

    def _unknown(self, method: str) -> str:
        from .validate_class import nearest

        return f"there is no handler `{method[:200]}`{nearest(method, self._handlers)}"

    def _cancel(self, message: Message) -> None:
        context = self._works.get(message.get("id", -1))
        if context is not None and context._reason is None:
            context._reason = str(message.get("why", "cancelled"))
            self.interrupt(context)

    def interrupt(self, context: AnyContext) -> None:
        """Ends work that has not begun, and wakes a handler that waits for a reply."""
        if self.drop(context) or context._delivered:
            return
        wake = context._wake  # its thread may remove it meanwhile
        if wake is not None:
            wake()
        for number in list(context._open or ()):
            settle = self._pending.pop(number, None)
            if settle is not None:
                settle(None)

    # the end of a piece of work, and of the child

    def end(self, context: AnyContext, data: bytes) -> None:
        """Sends the one end of a piece of work."""
        context._over = True
        self.send(data)
        # after the send: another thread that handles a drain ends the process when there is no work
        self._works.pop(context._id, None)
        if self.ending and not self._works:
            self._finish_if_idle()

    def start(self, context: AnyContext) -> bool:
        """Returns whether the handler of this work begins now: it was not cancelled before."""
        with self._claim:
            context._started = not context._over
        if self._terminated and context._started:
            self.end(context, _not_begun(context._message))
            return False
        return context._started

    def drop(self, context: AnyContext) -> bool:
        """Ends work that was cancelled, if its handler has not begun. Returns whether it has done so."""
        with self._claim:
            if context._started or context._over:
                return False
            context._over = True
        if self._residents is not None:
            forget(self._residents, context._message)
        self.end(context, outcome.stopped(context._id))
        return True

    def perform(self, context: AnyContext, work: Runnable) -> None:
        """Runs a sync piece of work in this thread and sends its end."""
        try:
            data = outcome.result(context, work.run(context), self.limit)
        except BaseException as error:
            data = outcome.failure(context, error)
        self.end(context, data)

    def terminate(self, *_: Any) -> None:
        """Handles SIGTERM: takes no more work, finishes what runs, and ends."""
        self.ending = self._terminated = True
        self._finish_if_idle()

    def _finish_if_idle(self) -> None:
        """Ends the stream of messages, which ends the loop that reads it."""
        if not self._works:
            try:
                self._sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass

    def closed(self, error: Exception) -> None:
        """Ends the process at once if the supervisor has gone or has broken the rules of frames. Returns if the child
        has finished its work.
        """
        if isinstance(error, EOFError) and self.ending and not self._works:
            return
        if isinstance(error, BrokenWire):
            print(f"pagewire: the supervisor has sent {error}", file=sys.stderr)
        exit_now(1)


def value_of(reply: Message) -> Any:
    """Returns the value of a reply, or raises its error."""
    if "error" in reply:
        raise error_of(reply["error"])
    return reply.get("value")


def _not_begun(message: Message) -> bytes:
    """Returns the end of work that arrives when the child is about to exit."""
    if message["t"] == "job":
        return frame({"t": "snooze", "id": message["id"], "after_ms": 0})
    return outcome.refused(message["id"], "unavailable", "the child is about to exit", True)


def exit_now(code: int) -> None:
    """Ends the process without waiting for handlers, which have no effects any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(code)


def run(link: Link, loop: Callable[[], None]) -> None:
    """Runs the loop of a child until it has finished its work. Must run in the main thread, which receives signals."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, link.terminate)
    try:
        loop()
    except (EOFError, BrokenWire, OSError) as error:
        link.closed(error)
