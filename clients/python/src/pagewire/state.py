"""The state trees that a handler reads and writes.

Owns: the requests `state.get` and `state.patch`, edits with compare-and-set. Never: the copy of a tree (`draft`).

Every method exists once. In a sync handler it returns the value, in an async handler an awaitable of it: `_ask` and
`_drive` of the context decide that.
"""

from __future__ import annotations

from typing import Any, Callable, Generic, NamedTuple, Protocol, TypeVar

from .draft import Draft
from .errors import Conflict, Error
from .steps import Pause, Steps

Value = TypeVar("Value")
Read = TypeVar("Read")
Revision = TypeVar("Revision")
EditType = TypeVar("EditType")

LEVELS = ("user", "connection", "session", "page")

_TRIES = 32


class Reading(NamedTuple):
    """The value at a path and the revision of its tree. `value` is None if there is none."""

    value: Any
    revision: int


class Asker(Protocol):
    """What a tree needs of a context or client."""

    _edit_type: type[Any]

    def _ask(self, method: str, params: Any, shape: Callable[[Any], Any] | None = None) -> Any: ...

    def _drive(self, steps: Steps[Any]) -> Any: ...


class Trees(Generic[Value, Read, Revision, EditType]):
    """The state trees of users, connections, sessions and pages."""

    __slots__ = ("_context",)

    def __init__(self, context: Asker) -> None:
        self._context = context

    def of(self, level: str, id: str) -> Tree[Value, Read, Revision, EditType]:
        """Returns the tree of a `user`, `connection`, `session` or `page`."""
        if level not in LEVELS:
            raise Error("malformed", f"a level is one of {', '.join(LEVELS)}, not {level!r}")
        return Tree(self._context, level, id)


class State(Trees[Value, Read, Revision, EditType]):
    """The trees of the user, connection, session and page that the work belongs to, and those of others (`of`)."""

    __slots__ = ()

    @property
    def user(self) -> Tree[Value, Read, Revision, EditType]:
        return Tree(self._context, "user")

    @property
    def connection(self) -> Tree[Value, Read, Revision, EditType]:
        return Tree(self._context, "connection")

    @property
    def session(self) -> Tree[Value, Read, Revision, EditType]:
        return Tree(self._context, "session")

    @property
    def page(self) -> Tree[Value, Read, Revision, EditType]:
        return Tree(self._context, "page")


class Tree(Generic[Value, Read, Revision, EditType]):
    """One state tree. Paths are written `wizard.form.name`; the empty path is the whole tree."""

    __slots__ = ("_at", "_context")

    def __init__(self, context: Asker, level: str, id: str | None = None) -> None:
        self._context = context
        self._at: dict[str, Any] = {"level": level} if id is None else {"level": level, "id": str(id)}

    def get(self, path: str = "", default: Any = None) -> Value:
        """Returns the value at a path, or `default` if there is none."""
        value: Value = self._ask("state.get", self._place(path), lambda read: read.get("value", default))
        return value

    def read(self, path: str = "") -> Read:
        """Returns the value at a path with the revision of the tree, for a later `if_revision`."""
        reading: Read = self._ask("state.get", self._place(path), _reading)
        return reading

    def set(self, path: str, value: Any, *, if_revision: int | None = None) -> Revision:
        """Writes a value. Returns the revision of the tree."""
        return self.patch([{"path": path, "value": value}], if_revision=if_revision)

    def delete(self, path: str, *, if_revision: int | None = None) -> Revision:
        """Deletes the value or branch at a path. Returns the revision of the tree."""
        return self.patch([{"path": path, "delete": True}], if_revision=if_revision)

    def patch(self, changes: list[dict[str, Any]], *, if_revision: int | None = None) -> Revision:
        """Writes `{path, value}` and `{path, delete: True}`, all or none. Returns the revision of the tree.

        Raises Conflict if the tree is not at `if_revision`.
        """
        revision: Revision = self._ask("state.patch", self._changed(changes, if_revision), _revision)
        return revision

    def edit(self) -> EditType:
        """Returns a context manager: it reads the tree, and writes all changes at its end.

        Raises Conflict at the end if another writer has changed the tree meanwhile; nothing is written then. If the
        block raises, nothing is written.
        """
        edit: EditType = self._context._edit_type(self)
        return edit

    def update(self, change: Callable[[Draft], Any]) -> Revision:
        """Reads the tree, calls `change(draft)` and writes the changes, again after each conflict. Returns the revision
        of the tree. `change` may be called several times.
        """
        return self._context._drive(self._update(change))  # type: ignore[no-any-return]

    def _update(self, change: Callable[[Draft], Any]) -> Steps[int]:
        from random import uniform

        for attempt in range(_TRIES):
            draft = yield from self._open()
            change(draft)
            try:
                return (yield from self._close(draft))
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
            yield Pause(uniform(0, min(0.1, 0.002 * 2**attempt)))
        raise AssertionError("unreachable")

    def _open(self) -> Steps[Draft]:
        read = yield ("state.get", self._at)
        return Draft(read.get("value"), read["revision"])

    def _close(self, draft: Draft) -> Steps[int]:
        changes = draft.changes()
        if changes:
            written = yield ("state.patch", self._changed(changes, draft.revision))
            draft.revision = written["revision"]
        return draft.revision

    def _place(self, path: str) -> dict[str, Any]:
        return {**self._at, "path": path} if path else self._at

    def _changed(self, changes: list[dict[str, Any]], if_revision: int | None) -> dict[str, Any]:
        params = {**self._at, "changes": changes}
        if if_revision is not None:
            params["if_revision"] = if_revision
        return params

    def _ask(self, method: str, params: dict[str, Any], shape: Callable[[Any], Any]) -> Any:
        return self._context._ask(method, params, shape)


def _reading(read: Any) -> Reading:
    return Reading(read.get("value"), read["revision"])


def _revision(written: Any) -> Any:
    return written["revision"]


class Edit:
    """An edit of a tree in a sync handler: `with ctx.state.user.edit() as draft:`."""

    def __init__(self, tree: Tree[Any, Any, Any, Any]) -> None:
        self._tree = tree
        self._draft: Draft | None = None

    def __enter__(self) -> Draft:
        self._draft = self._tree._context._drive(self._tree._open())
        return self._draft

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self._draft is not None:
            self._tree._context._drive(self._tree._close(self._draft))


class AsyncEdit:
    """An edit of a tree in an async handler: `async with ctx.state.user.edit() as draft:`."""

    def __init__(self, tree: Tree[Any, Any, Any, Any]) -> None:
        self._tree = tree
        self._draft: Draft | None = None

    async def __aenter__(self) -> Draft:
        draft: Draft = await self._tree._context._drive(self._tree._open())
        self._draft = draft
        return draft

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self._draft is not None:
            await self._tree._context._drive(self._tree._close(self._draft))
