"""A registered handler: a function with a name and the options of its work.

Owns: what `ready` reports of a handler. Never: how a handler runs (`outcome` and the loops).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Literal, Protocol

from .binding import Binding

if TYPE_CHECKING:
    from .context import AnyContext

Mode = Literal["any", "assigned"]
Serial = Literal["user", "page"]

_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200


class Runnable(Protocol):
    """What a loop runs for a piece of work."""

    @property
    def is_async(self) -> bool: ...

    def run(self, context: AnyContext) -> Any:
        """Returns the result, or an awaitable of it if `is_async`."""


class Handler:
    """A function that runs calls and jobs of one name."""

    __slots__ = ("_binding", "function", "is_async", "mode", "name", "retries", "serial", "timeout")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        mode: Mode | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        serial: Serial | None = None,
    ) -> None:
        if not isinstance(name, str) or not 1 <= len(name.encode()) <= 200:
            raise ValueError(f"a handler's name has 1 to 200 bytes, not {name!r}")
        if mode not in (None, "any", "assigned"):
            raise ValueError(f"the mode of `{name}` is any or assigned, not {mode!r}")
        if serial not in (None, "user", "page"):
            raise ValueError(f"serial of `{name}` is user or page, not {serial!r}")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"the timeout of `{name}` is a number of seconds above 0, not {timeout!r}")
        if retries is not None and not (isinstance(retries, int) and 0 <= retries <= 100):
            raise ValueError(f"retries of `{name}` is a number from 0 to 100, not {retries!r}")
        flags = _flags(function)
        if flags & (_GENERATOR | _ASYNC_GENERATOR):
            raise TypeError(f"`{name}` is a generator: a handler returns its result")
        self.name = name
        self.function = function
        self.is_async = bool(flags & _COROUTINE)
        self.mode, self.timeout, self.retries, self.serial = mode, timeout, retries, serial
        self._binding: Binding | None = None

    @property
    def binding(self) -> Binding:
        """The parameters. They are read at the first use, when all types of the module are defined.

        Raises TypeError if a parameter has a type that JSON cannot be checked against.
        """
        if self._binding is None:
            try:
                self._binding = Binding(self.function)
            except TypeError as error:
                raise TypeError(f"handler `{self.name}`: {error}") from None
        return self._binding

    def run(self, context: AnyContext) -> Any:
        """Returns the result of the function, or an awaitable of it if `is_async`."""
        arguments, keywords = self.binding.bind(context._message.get("params"))
        return self.function(context, *arguments, **keywords)

    def describe(self) -> dict[str, Any]:
        """Returns the method of `ready`."""
        described: dict[str, Any] = {"name": self.name}
        if self.mode is not None:
            described["mode"] = self.mode
        if self.serial is not None:
            described["serial"] = self.serial
        if self.timeout is not None:
            described["timeout_ms"] = max(1, round(self.timeout * 1000))
        if self.retries is not None:
            described["retries"] = self.retries
        described["schema"] = self.binding.schema()
        returns = self.binding.returns()
        if returns:
            described["returns"] = returns
        described.update(doc_of(self.function))
        return described


def doc_of(function: Callable[..., Any]) -> dict[str, str]:
    """Returns the member `doc` of a method: the first paragraph of the documentation of its function, if it has one."""
    doc = " ".join((function.__doc__ or "").strip().split("\n\n")[0].split())
    return {"doc": doc} if doc else {}


def is_coroutine(function: Callable[..., Any]) -> bool:
    """Returns whether a function is async."""
    return bool(_flags(function) & _COROUTINE)


def _flags(function: Callable[..., Any]) -> int:
    inner: Any = function
    while hasattr(inner, "__wrapped__") or hasattr(inner, "__func__") or hasattr(inner, "func"):
        inner = getattr(inner, "__wrapped__", None) or getattr(inner, "__func__", None) or inner.func
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    return code.co_flags if code is not None else 0
