"""A registered class of resident pages: its methods and hooks.

Owns: what may be registered, and what `ready` reports of a class. Never: its objects (`resident`).
"""

from __future__ import annotations

from typing import Any, Callable, Iterator

from .binding import MISSING, parameters_of
from .handler import Handler, doc_of, is_coroutine
from .page import MARK, Page, RpcOptions

HOOKS = ("on_open", "save", "restore", "on_restore", "on_away", "on_back", "on_close")

_OWN = ("page", "user", "session", "connection", "ctx", "data", "send")
"""What `Page` gives, which a class does not replace."""


class Method(Handler):
    """A method that pages and programs may call. Its name is `class.method`."""

    __slots__ = ("concurrent", "short")

    def __init__(self, owner: str, short: str, function: Callable[..., Any], options: RpcOptions) -> None:
        if not short or not isinstance(short, str):
            raise ValueError(f"a method of `{owner}` has a name, not {short!r}")
        super().__init__(f"{owner}.{short}", function, timeout=options.timeout)
        self.short = short
        self.concurrent = options.concurrent

    def describe(self) -> dict[str, Any]:
        """Returns the method of a class of `ready`."""
        described: dict[str, Any] = {"name": self.short}
        if self.timeout is not None:
            described["timeout_ms"] = max(1, round(self.timeout * 1000))
        if self.concurrent:
            described["concurrent"] = True
        described["schema"] = self.binding.schema()
        returns = self.binding.returns()
        if returns:
            described["returns"] = returns
        described.update(doc_of(self.function))
        return described


class PageClass:
    """A class of resident pages under its name."""

    __slots__ = ("_hooks", "is_async", "methods", "name", "type")

    def __init__(self, type: type[Page], name: str | None = None) -> None:
        self.name = _checked_name(type, name)
        self.type = type
        self.methods: dict[str, Method] = {}
        for function, options, attribute in _marked(type):
            method = Method(self.name, options.name or attribute, function, options)
            if method.short in self.methods:
                raise ValueError(f"`{self.name}` has two methods with the name `{method.short}`")
            self.methods[method.short] = method
        self._hooks = {hook: getattr(type, hook) for hook in HOOKS if getattr(type, hook) is not getattr(Page, hook)}
        if "save" in self._hooks and "restore" not in self._hooks:
            raise TypeError(
                f"`{self.name}` has `save` and no `restore(self, saved, why)`, which receives what it returns"
            )
        async_hooks = [is_coroutine(hook) for hook in self._hooks.values()]
        self.is_async = any(async_hooks) or any(method.is_async for method in self.methods.values())

    def hook(self, event: str, message: dict[str, Any]) -> tuple[Callable[..., Any], tuple[Any, ...]] | None:
        """Returns the function for an event and its arguments after the object, or None for an unknown event."""
        if event == "restore":
            why, saved = str(message.get("why", "lost")), message.get("saved")
            if saved is not None and "restore" in self._hooks:
                return self._hooks["restore"], (saved, why)
            if "on_restore" in self._hooks:
                return self._hooks["on_restore"], (why,)
            event = "open"
        name = event if event == "save" else f"on_{event}"
        if name not in HOOKS or name == "on_restore":
            return None
        return self._hooks.get(name, getattr(Page, name)), ()

    def make(self, message: dict[str, Any]) -> Page:
        """Returns a new object for the page of a message."""
        made = self.type.__new__(self.type)
        made.page = message["page"]
        made.user, made.session, made.connection = (message.get(name) for name in ("user", "session", "connection"))
        made.__init__()  # type: ignore[misc]
        return made

    def describe(self) -> dict[str, Any]:
        """Returns the class of `ready`.

        Raises TypeError if a parameter has a type that JSON cannot be checked against.
        """
        return {"name": self.name, "methods": [method.describe() for method in self.methods.values()]}


def _checked_name(type_: Any, name: str | None) -> str:
    """Returns the name of a class that may be registered."""
    if not isinstance(type_, type) or not issubclass(type_, Page):
        raise TypeError(f"a resident page is a class that inherits from pagewire.Page, not {type_!r}")
    name = type_.__name__ if name is None else name
    if not isinstance(name, str) or not name.isidentifier() or len(name.encode()) > 198:
        raise ValueError(f"the name of a class of pages is an identifier of at most 198 bytes, not {name!r}")
    for own in _OWN:
        if getattr(type_, own, None) is not getattr(Page, own, None):
            raise TypeError(f"`{name}.{own}` hides what every page has under this name: choose another one")
    if type_.__init__ is not object.__init__:
        needed = [one.name for one in parameters_of(type_.__init__)[1:] if _is_needed(one.kind, one.default)]
        if needed:
            raise TypeError(f"the object of a page is made without parameters: `{name}.__init__` needs `{needed[0]}`")
    return name


def _is_needed(kind: str, default: Any) -> bool:
    return kind in ("plain", "keyword") and default is MISSING


def _marked(type: type[Page]) -> Iterator[tuple[Callable[..., Any], RpcOptions, str]]:
    """Returns the methods with `@rpc`, also of base classes. A class leaves one of them out by setting it to None."""
    found: dict[str, tuple[Any, RpcOptions | None]] = {}
    for base in reversed(type.__mro__):
        for attribute, value in vars(base).items():
            options = getattr(value, MARK, None) or getattr(getattr(value, "__func__", None), MARK, None)
            if options is not None or attribute in found:
                found[attribute] = (value, options)
    for attribute, (value, options) in found.items():
        name = f"{type.__name__}.{attribute}"
        if value is None:
            continue
        if options is None:
            raise TypeError(f"`{name}` replaces a method with @rpc: mark it with @rpc as well, or set it to None")
        if isinstance(value, (staticmethod, classmethod)):
            raise TypeError(f"`{name}` is no method of an object: @rpc is for methods with `self`")
        if attribute in HOOKS or attribute.startswith("__"):
            raise TypeError(f"`{name}` is called by Pagewire itself: @rpc is for other methods")
        yield value, options, attribute
