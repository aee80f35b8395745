"""The context of a piece of work, which a handler receives as `ctx`.

Owns: what a handler can ask and know. Never: sockets and threads (`link` and the loops).

`Context` is for sync handlers and `AsyncContext` for async ones. Both have the same methods from `BaseContext`; they
differ in `_ask` and `_drive`, which block in one and return an awaitable in the other.
"""

from __future__ import annotations

import time
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generic,
    Iterable,
    Iterator,
    NoReturn,
    TypeVar,
)

from .errors import Cancelled, Error, Snoozed
from .locks import AsyncLock, Lock
from .requests import Caller, Handle, Jobs, Log, Reach, Record, Sent, Text
from .state import AsyncEdit, Edit, EditType, Read, Reading, Revision, State, Value
from .steps import Steps, drive, drive_async
from .wire import encode, pack

if TYPE_CHECKING:
    from .errors import Delay
    from .port import Port

Item = TypeVar("Item")
LockType = TypeVar("LockType")

_TRACK_EVERY = 0.1
"""The least seconds between two reports of `track`."""


class BaseContext(Caller[Sent, Value], Generic[Value, Sent, Read, Revision, Text, Record, EditType, LockType]):
    """What sync and async handlers have in common. The parameters are the types that its requests return."""

    _edit_type: type[Any]
    _lock_type: type[Any]

    __slots__ = (
        "_delivered",
        "_id",
        "_link",
        "_message",
        "_open",
        "_over",
        "_reason",
        "_since",
        "_started",
        "_task",
        "_wake",
    )

    def __init__(self, link: Port, message: dict[str, Any]) -> None:
        self._link = link
        self._message = message
        self._id: int = message["id"]
        self._reason: str | None = None
        self._delivered = False
        self._started = False
        self._over = False
        self._open: set[int] | None = None
        self._task: Any = None
        self._wake: Callable[[], object] | None = None
        self._since = link.now()

    @property
    def job(self) -> str | None:
        """The id of the job, or None in a call."""
        return self._message.get("job")

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return int(self._message.get("attempt", 1))

    @property
    def left(self) -> int:
        """How many attempts may follow if this one fails."""
        return int(self._message.get("left", 0))

    @property
    def method(self) -> str:
        """The name of the handler, or `class.method` of a resident page."""
        return str(self._message["method"])

    @property
    def trace(self) -> str | None:
        """The W3C `traceparent` of the work."""
        return self._message.get("trace")

    @property
    def deadline(self) -> float:
        """When the time of the work is over, on the clock of `time.monotonic`."""
        limit = self._message.get("deadline_ms", self._message.get("timeout_ms"))
        return float("inf") if limit is None else self._since + limit / 1000

    @property
    def remaining(self) -> float:
        """The seconds until the deadline; 0 after it."""
        return max(0.0, self.deadline - self._link.now())

    @property
    def cancelled(self) -> str | None:
        """Why the work has to stop (`cancelled`, `deadline` or `drain`), or None."""
        if self._reason is None:
            self._link.poll()
        return self._reason

    def check(self) -> None:
        """Raises Cancelled if the work has to stop."""
        reason = self.cancelled
        if reason is not None:
            self._delivered = True
            raise Cancelled(reason)

    def progress(self, progress: float, message: str | None = None) -> None:
        """Reports the progress, from 0 to 1, to the page that waits for the work."""
        report: dict[str, Any] = {"t": "progress", "id": self._id, "progress": min(1.0, max(0.0, float(progress)))}
        if message is not None:
            report["message"] = str(message)[:1000]
        self._link.send(pack(encode(report)))

    def snooze(self, seconds: Delay) -> NoReturn:
        """Ends this attempt and puts the job off, without counting it as an attempt. A timedelta is a delay as well."""
        raise Snoozed(seconds)

    @property
    def user(self) -> Handle[Sent]:
        """The user that the work runs for."""
        return Handle(self, "user")

    @property
    def page(self) -> Handle[Sent]:
        """The page that asked for the work, wherever it is now."""
        return Handle(self, "page")

    @property
    def session(self) -> Handle[Sent]:
        """The session of the page."""
        return Handle(self, "session")

    @property
    def connection(self) -> Handle[Sent]:
        """The connection of the page: a browser or device."""
        return Handle(self, "connection")

    @property
    def state(self) -> State[Value, Read, Revision, EditType]:
        """The state trees."""
        return State(self)

    @property
    def jobs(self) -> Jobs[Text, Record]:
        """Durable jobs."""
        return Jobs(self)

    def lock(self, name: str, ttl: float = 30, wait: float | None = None) -> LockType:
        """Returns a lock: `with ctx.lock("stock") as lock:`. It is renewed while it is held.

        `wait` is how many seconds to wait for it. Raises Error with the code `locked` if another one holds it.
        """
        lock: LockType = self._lock_type(self, name, ttl, wait)
        return lock

    @property
    def log(self) -> Log:
        """Lines of the server's log."""
        return Log(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.method}{f' job {self.job}' if self.job else ''}>"

    def _interrupt(self) -> None:
        """Raises Cancelled if the work has to stop and no request or check has raised it before."""
        if self._over:
            raise Error("stale", f"the work `{self.method}` has ended")
        if self._reason is not None and not self._delivered:
            self._delivered = True
            raise Cancelled(self._reason)


class Context(BaseContext[Any, Reach, Reading, int, str, "dict[str, Any]", Edit, Lock]):
    """The context of a sync handler. After a cancel, the next request, `check` or step of `track` raises Cancelled."""

    _edit_type = Edit
    _lock_type = Lock

    __slots__ = ()

    def track(self, items: Iterable[Item], total: int | None = None) -> Iterator[Item]:
        """Iterates, reports the progress, and stops when the work has to stop.

        `total` is the number of items; it is `len(items)` if that exists. Without it no progress is reported.
        """
        meter = _Meter(self, items, total)
        for item in items:
            self.check()
            yield item
            meter.step()

    def _ask(self, method: str, params: Any, shape: Callable[[Any], Any] | None = None) -> Any:
        self._interrupt()
        value = self._link.ask(self, method, params)
        return value if shape is None else shape(value)

    def _drive(self, steps: Steps[Any]) -> Any:
        return drive(steps, self._ask, time.sleep)


class AsyncContext(
    BaseContext[
        Awaitable[Any],
        Awaitable[Reach],
        Awaitable[Reading],
        Awaitable[int],
        Awaitable[str],
        "Awaitable[dict[str, Any]]",
        AsyncEdit,
        AsyncLock,
    ]
):
    """The context of an async handler. A cancel cancels its task: the next `await` raises `asyncio.CancelledError`."""

    _edit_type = AsyncEdit
    _lock_type = AsyncLock

    __slots__ = ()

    async def track(self, items: Iterable[Item] | AsyncIterable[Item], total: int | None = None) -> AsyncIterator[Item]:
        """Iterates, reports the progress, and lets other work run between the items: `async for x in ctx.track(xs)`."""
        from asyncio import sleep

        meter = _Meter(self, items, total)
        if isinstance(items, AsyncIterable):
            async for item in items:
                yield item
                meter.step()
            return
        for item in items:
            await sleep(0)
            yield item
            meter.step()

    async def _ask(self, method: str, params: Any, shape: Callable[[Any], Any] | None = None) -> Any:
        if self._over:
            raise Error("stale", f"the work `{self.method}` has ended")
        value = await self._link.ask_async(self, method, params)
        return value if shape is None else shape(value)

    def _drive(self, steps: Steps[Any]) -> Any:
        from asyncio import sleep

        return drive_async(steps, self._ask, sleep)


if TYPE_CHECKING:
    AnyContext = BaseContext[Any, Any, Any, Any, Any, Any, Any, Any]


class _Meter:
    """Reports the progress of `track`, but not each item of a fast loop."""

    __slots__ = ("_context", "_done", "_next", "_total")

    def __init__(self, context: AnyContext, items: Any, total: int | None) -> None:
        if total is None:
            try:
                total = len(items)
            except TypeError:
                total = 0
        self._context, self._total, self._done = context, total, 0
        self._next = time.monotonic() + _TRACK_EVERY

    def step(self) -> None:
        self._done += 1
        if self._total:
            now = time.monotonic()
            if now >= self._next or self._done == self._total:
                self._next = now + _TRACK_EVERY
                self._context.progress(self._done / self._total)
