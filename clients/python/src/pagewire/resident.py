"""The live objects of resident pages, and who has one of them.

Owns: finding an object by its page, and one user of it at a time. Never: what a message does with it (`page_work`).
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from contextvars import Token
from typing import TYPE_CHECKING, Callable, Generic, TypeVar

from .errors import Cancelled, NoObject
from .page import HELD, Page

if TYPE_CHECKING:
    from .context import AnyContext
    from .page_class import PageClass

Object = TypeVar("Object")

_guard = threading.Lock()
"""Guards the queues of all objects. It is held for a few steps at a time."""


class _Waiter:
    """A thread or task that waits for an object. `granted` is whether it has it now."""

    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.granted = False
        self.wake = wake


class Resident:
    """An object, and the queue of the threads and tasks that want it. They get it in the order in which they came."""

    __slots__ = ("_held", "_waiting", "dropped", "object")

    def __init__(self, object: Page) -> None:
        self.object = object
        self.dropped = False
        self._held = False
        self._waiting: deque[_Waiter] | None = None

    @property
    def is_held(self) -> bool:
        """Whether a message or other code has the object now."""
        return self._held

    def enter(self, context: AnyContext | None = None) -> None:
        """Waits in a thread until the object is free. A cancel of the work of `context` ends this with Cancelled."""
        if self._take():
            return
        gate = threading.Event()
        waiter = self._queue(gate.set)
        if context is not None:
            context._wake = gate.set
            if context._reason is not None:  # the cancel came before
                gate.set()
        try:
            gate.wait()
        except BaseException:
            self._give_up(waiter)
            raise
        finally:
            if context is not None:
                context._wake = None
        if not waiter.granted and context is not None:
            self._give_up(waiter)
            context._delivered = True
            raise Cancelled(context._reason or "cancelled")

    async def enter_async(self) -> None:
        """Waits in a task until the object is free."""
        if self._take():
            return
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def arrive() -> None:
            if not future.done():
                future.set_result(None)

        waiter = self._queue(lambda: loop.call_soon_threadsafe(arrive))
        try:
            await future
        except BaseException:
            self._give_up(waiter)
            raise

    def leave(self) -> None:
        """Gives the object to the next one."""
        while True:
            with _guard:
                if not self._waiting:
                    self._held = False
                    return
                waiter = self._waiting.popleft()
                waiter.granted = True
            try:
                waiter.wake()
                return
            except RuntimeError:  # its event loop has ended
                continue

    def _take(self) -> bool:
        with _guard:
            if self._held:
                return False
            self._held = True
            return True

    def _queue(self, wake: Callable[[], object]) -> _Waiter:
        waiter = _Waiter(wake)
        with _guard:
            if self._held:
                if self._waiting is None:
                    self._waiting = deque()
                self._waiting.append(waiter)
                return waiter
            self._held = waiter.granted = True
        waiter.wake()
        return waiter

    def _give_up(self, waiter: _Waiter) -> None:
        with _guard:
            if not waiter.granted and self._waiting is not None:
                self._waiting.remove(waiter)
                return
        self.leave()


class Hold:
    """The use of an object by a message, or by `app.object`. `context` is that of the message."""

    __slots__ = ("_token", "active", "context", "locked", "resident")

    def __init__(self, resident: Resident, context: AnyContext | None = None, locked: bool = True) -> None:
        self.resident = resident
        self.context = context
        self.locked = locked
        self.active = False
        self._token: Token[tuple[Hold, ...]] | None = None

    def begin(self) -> None:
        """Begins the use, after the object has been taken."""
        self.active = True
        self._token = HELD.set((*HELD.get(), self))

    def end(self) -> None:
        """Ends the use, and gives the object to the next one."""
        self.active = False
        if self._token is not None:
            try:
                HELD.reset(self._token)
            except ValueError:  # it has begun in another thread or task
                HELD.set(tuple(hold for hold in HELD.get() if hold is not self))
        if self.locked:
            self.resident.leave()


class Residents:
    """The objects of a process, by page, and the classes that they are of."""

    def __init__(self, classes: dict[str, PageClass]) -> None:
        self.classes = classes
        self._live: dict[str, Resident] = {}

    def find(self, page: str) -> Resident | None:
        """Returns the object of a page, which may be named with or without its node."""
        return self._live.get(_key(page))

    def add(self, resident: Resident) -> None:
        """Adds an object. One that the page had before is dropped."""
        self.drop(resident.object.page)
        self._live[_key(resident.object.page)] = resident

    def drop(self, page: str) -> None:
        """Drops the object of a page, if it has one."""
        resident = self._live.pop(_key(page), None)
        if resident is not None:
            resident.dropped = True

    def pages(self) -> list[str]:
        """Returns the pages that have an object."""
        return [resident.object.page for resident in list(self._live.values())]

    def clear(self) -> None:
        """Drops all objects."""
        for page in self.pages():
            self.drop(page)


class Meeting(Generic[Object]):
    """The object of a page in code that is no message: `with app.object(page) as counter:`, or `async with`."""

    __slots__ = ("_hold", "_page", "_residents", "_type")

    def __init__(self, residents: Residents, page: str, type: type[Object]) -> None:
        self._residents = residents
        self._page = str(page)
        self._type = type
        self._hold: Hold | None = None

    def __enter__(self) -> Object:
        hold = self._hold_of()
        if hold.locked:
            asyncio = sys.modules.get("asyncio")
            if asyncio is not None and asyncio._get_running_loop() is not None:
                raise RuntimeError("in async code, the object of a page is met by `async with app.object(…)`")
            hold.resident.enter()
        return self._begin(hold)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.end()

    async def __aenter__(self) -> Object:
        hold = self._hold_of()
        if hold.locked:
            await hold.resident.enter_async()
        return self._begin(hold)

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def _hold_of(self) -> Hold:
        if self._hold is not None:
            raise RuntimeError("this object of a page has been entered already: call app.object again")
        resident = self._residents.find(self._page)
        if resident is None or not isinstance(resident.object, self._type):
            raise self._missing()
        # a thread or task that has the object does not wait for itself
        has_it = any(hold.resident is resident and hold.locked and hold.active for hold in HELD.get())
        return Hold(resident, locked=not has_it)

    def _begin(self, hold: Hold) -> Object:
        if hold.resident.dropped:  # while this waited
            if hold.locked:
                hold.resident.leave()
            raise self._missing()
        hold.begin()
        self._hold = hold
        return hold.resident.object  # type: ignore[return-value]

    def _missing(self) -> NoObject:
        kind = "object" if self._type is Page else f"`{self._type.__name__}`"
        return NoObject(f"the page {self._page} has no {kind} in this process")


def _key(page: str) -> str:
    """Returns the part of an id that stays the same when the page moves to another node."""
    return page.partition("|")[0]
