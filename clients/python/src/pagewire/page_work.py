"""The work of a resident page: one message `rpc` or `page`.

Owns: what each message does to the object. Never: finding the thread or task for it (the loops), or its frames
(`outcome`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from .errors import BrokenWire, Error
from .handler import is_coroutine
from .page_class import Method, PageClass
from .resident import Hold, Resident, Residents
from .validate_class import nearest
from .wire import Message, encode

if TYPE_CHECKING:
    from .context import AnyContext

SAVED = 192 * 1024
"""The most bytes of what `save` returns, as JSON."""

_MADE, _DROPPED = ("open", "restore"), ("save", "close")


class PageWork:
    """A message of a page, which a loop runs like a handler."""

    __slots__ = ("_arguments", "_class", "_event", "_function", "_is_locked", "_method", "_residents", "is_async")

    def __init__(
        self,
        residents: Residents,
        page_class: PageClass,
        event: str,
        function: Callable[..., Any],
        what: Method | tuple[Any, ...],
    ) -> None:
        self._residents = residents
        self._class = page_class
        self._event = event
        self._function = function
        self._method: Method | None = None
        self._arguments: tuple[Any, ...] = ()
        if isinstance(what, Method):
            self._method, self._is_locked, self.is_async = what, not what.concurrent, what.is_async
        else:
            self._arguments, self._is_locked, self.is_async = what, True, is_coroutine(function)

    def run(self, context: AnyContext) -> Any:
        """Returns the result, or an awaitable of it if `is_async`."""
        return self._run_async(context) if self.is_async else self._run(context)

    def would_wait(self, page: str) -> bool:
        """Returns whether another message or other code has the object that this message needs."""
        resident = self._residents.find(page)
        return resident is not None and self._event not in _MADE and self._is_locked and resident.is_held

    def _run(self, context: AnyContext) -> Any:
        arguments, keywords = self._bind(context)
        hold = self._hold(context)
        if hold.locked:
            try:
                hold.resident.enter(context)
            except BaseException:
                self._drop_if_over(hold.resident)
                raise
        try:
            self._begin(hold)
            value = self._function(hold.resident.object, *arguments, **keywords)
            return self._finish(hold.resident, value)
        finally:
            self._leave(hold)

    async def _run_async(self, context: AnyContext) -> Any:
        arguments, keywords = self._bind(context)
        hold = self._hold(context)
        if hold.locked:
            try:
                await hold.resident.enter_async()
            except BaseException:
                self._drop_if_over(hold.resident)
                raise
        try:
            self._begin(hold)
            value = await self._function(hold.resident.object, *arguments, **keywords)
            return self._finish(hold.resident, value)
        finally:
            self._leave(hold)

    def _bind(self, context: AnyContext) -> tuple[Any, dict[str, Any]]:
        if self._method is None:
            return self._arguments, {}
        return self._method.binding.bind(context._message.get("params"))

    def _hold(self, context: AnyContext) -> Hold:
        """Returns the use of the object by this message: of a new one, or of that of the page."""
        message = context._message
        if self._event in _MADE:
            self._residents.drop(message["page"])
            return Hold(Resident(self._class.make(message)), context)
        resident = self._residents.find(message["page"])
        if resident is None or type(resident.object) is not self._class.type:
            raise self._missing(message["page"])
        return Hold(resident, context, locked=self._is_locked)

    def _begin(self, hold: Hold) -> None:
        if hold.resident.dropped:  # while this message waited
            raise self._missing(hold.resident.object.page)
        assert hold.context is not None
        page, message = hold.resident.object, hold.context._message
        page.page = message["page"]
        page.connection = message.get("connection", page.connection)
        hold.begin()

    def _finish(self, resident: Resident, value: Any) -> Any:
        """Returns the result of the message for what its function has returned."""
        if self._event in _MADE:
            self._residents.add(resident)
        if self._event == "save":
            return _checked(self._class.name, value)
        return value if self._event == "rpc" else None

    def _leave(self, hold: Hold) -> None:
        self._drop_if_over(hold.resident)
        hold.end()

    def _drop_if_over(self, resident: Resident) -> None:
        """Drops the object if it ends with this message, whether its function has run or not."""
        if self._event in _DROPPED and not resident.dropped:
            self._residents.drop(resident.object.page)

    def _missing(self, page: str) -> Error:
        return Error("stale", f"the page {page} has no `{self._class.name}` in this process")


def work_of(residents: Residents, message: Message) -> PageWork:
    """Returns the work for a message `rpc` or `page`, and gives the message the name of its method.

    Raises Error if this program does not have the class or method.
    """
    name, page = message.get("class"), message.get("page")
    what = message.get("method" if message["t"] == "rpc" else "event")
    if type(name) is not str or type(page) is not str or type(what) is not str:
        raise BrokenWire(f"a message `{message['t']}` without class, page, method or event")
    page_class = residents.classes.get(name)
    if page_class is None:
        known = f"there is no class of pages `{name[:200]}`{nearest(name, residents.classes)}"
        raise Error("no_executor", known, True)
    if message["t"] == "rpc":
        method = page_class.methods.get(what)
        if method is None:
            hint = nearest(what, page_class.methods)
            raise Error("no_executor", f"`{name}` has no method `{what[:200]}`{hint}", True)
        message["method"] = method.name
        return PageWork(residents, page_class, "rpc", method.function, method)
    message["method"] = f"{name}.{what}"
    hook = page_class.hook(what, message)
    if hook is None:
        raise Error("unsupported", f"this child does not know the event `{what[:40]}`")
    return PageWork(residents, page_class, what, *hook)


def forget(residents: Residents, message: Message) -> None:
    """Drops the object after a message that was stopped before it began, if the object ends with that message."""
    if message["t"] == "page" and message.get("event") in _DROPPED:
        residents.drop(message["page"])


def _checked(name: str, saved: Any) -> Any:
    """Returns what `save` has returned, if it can be kept."""
    try:
        size = len(encode(saved))
    except (TypeError, ValueError, RecursionError) as error:
        raise Error("malformed", f"`{name}.save` has returned what is not JSON: {error}") from None
    if size > SAVED:
        raise Error("too_large", f"`{name}.save` has returned {size} bytes; at most {SAVED} are possible")
    return saved
