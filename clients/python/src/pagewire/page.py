"""The base class of resident pages, and the mark of their methods.

Owns: what the object of a page knows and can ask. Never: its life (`resident`), or registration (`page_class`).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, TypeVar, overload

if TYPE_CHECKING:
    from .context import AnyContext
    from .resident import Hold
    from .state import Tree

Function = TypeVar("Function", bound=Callable[..., Any])

HELD: ContextVar[tuple[Hold, ...]] = ContextVar("pagewire_held", default=())
"""The objects that this thread or task has, by a message or by `app.object`."""

MARK = "__pagewire_rpc__"
"""The attribute of a function that pages and programs may call."""


class RpcOptions(NamedTuple):
    """The options of `@rpc`."""

    name: str | None = None
    timeout: float | None = None
    concurrent: bool = False


@overload
def rpc(function: Function) -> Function: ...


@overload
def rpc(
    *, name: str | None = None, timeout: float | None = None, concurrent: bool = False
) -> Callable[[Function], Function]: ...


def rpc(
    function: Any = None, *, name: str | None = None, timeout: float | None = None, concurrent: bool = False
) -> Any:
    """Marks a method of a `Page` that pages and programs may call: `@rpc`, `@rpc(timeout=5, concurrent=True)`.

    The name is that of the method if none is given. `timeout` is in seconds. With `concurrent` calls of the method run
    beside the other messages of the object.
    """
    options = RpcOptions(name, timeout, bool(concurrent))

    def mark(method: Function) -> Function:
        if not callable(method):
            raise TypeError(f"@rpc marks a method, not a {type(method).__name__}")
        setattr(method, MARK, options)
        return method

    return mark if function is None else mark(function)


class Page:
    """The object of one open page. It lives from the opening of the page to its end, in one process at a time.

    Methods with `@rpc` are called by the page, by programs and over HTTP, one at a time. Each method and hook may be
    sync or async. `__init__`, if there is one, has no parameters; the ids of the page are there already.
    """

    page: str
    """The id of the page."""
    user: str | None
    """The user of the page, or None if it is anonymous."""
    session: str | None
    connection: str | None

    @property
    def ctx(self) -> AnyContext:
        """The context of the message that runs now: a `Context` in a sync method, an `AsyncContext` in an async one.

        Raises RuntimeError outside of a message, for example within `app.object`.
        """
        for hold in reversed(HELD.get()):
            if hold.context is not None and hold.active and hold.resident.object is self:
                return hold.context
        name = type(self).__name__
        raise RuntimeError(
            f"no message of this `{name}` runs in this thread or task: its methods and hooks have a context, "
            "`app.object` and threads that a method starts have none"
        )

    @property
    def data(self) -> Tree[Any, Any, Any, Any]:
        """The state tree of the page: `get`, `set`, `patch`, `edit`, `update`. It outlives the object."""
        return self.ctx.state.page

    def send(self, payload: Any) -> Any:
        """Sends a message to the page. In an async method the result is awaited."""
        return self.ctx.page.send(payload)

    def on_open(self) -> Any:
        """Runs when the page has opened."""

    def save(self) -> Any:
        """Returns what a planned move keeps, for `restore`. With None the object is rebuilt by `on_restore`."""

    def restore(self, saved: Any, why: str) -> Any:
        """Runs instead of `on_open` with what `save` of the object before has returned."""

    def on_restore(self, why: str) -> Any:
        """Runs instead of `on_open` when the object before is lost, or has saved nothing. Without an own `on_restore`
        of the class, `on_open` runs.
        """

    def on_away(self) -> Any:
        """Runs when the page has lost its socket. It may come back."""

    def on_back(self) -> Any:
        """Runs when the page has a socket again."""

    def on_close(self) -> Any:
        """Runs when the page has ended."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the page {getattr(self, 'page', None)}>"
