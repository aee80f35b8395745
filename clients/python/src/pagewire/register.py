"""Registers: what a legacy application keeps of its users, connections and pages in the cluster.

Owns: the requests `register.*`, and the data of one item as a mapping. Never: the socket (`link`), or what a register
does (docs/register.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import Error, error_of
from .locks import Lock

if TYPE_CHECKING:
    from .state import Asker

LEVELS = ("global", "user", "connection", "page")

_LEASE = 10.0
"""Seconds for which the lock of a store is held without a renewal."""
_TRIES = 8


class Item(NamedTuple):
    """An item of a register. `created` is in seconds since the Unix epoch."""

    level: str
    id: str
    revision: int
    fields: dict[str, Any]
    data: dict[str, Any]
    created: float


class Entry(NamedTuple):
    """What a page has taken: the changes that were published at once, from which page, and why."""

    changes: list[Any]
    to: dict[str, Any]
    origin: str | None
    reason: str | None
    position: int


class Taken(NamedTuple):
    """What was published for a page. With `reset` something may be missing: the page has to reload."""

    entries: list[Entry]
    reset: bool


def _item(found: dict[str, Any]) -> Item:
    fields, data = found.get("fields", {}), found.get("data", {})
    return Item(found["level"], found.get("id", ""), found["revision"], fields, data, found["created_ms"] / 1000)


def _items(found: Any) -> list[Any]:
    return [None if one is None else _item(one) for one in found["items"]]


def _taken(found: Any) -> Taken:
    entries = [
        Entry(one["changes"], one["to"], one.get("origin"), one.get("reason"), one["position"])
        for one in found["entries"]
    ]
    return Taken(entries, found["reset"])


class Register:
    """One register of the cluster, in a thread of a web application or in a sync handler.

    Levels are `global` (one item, without an id), `user`, `connection` and `page`; ids are those of the application.
    """

    __slots__ = ("_asker", "name")

    def __init__(self, asker: Asker, name: str = "default") -> None:
        self._asker = asker
        self.name = name

    def ask(self, request: str, **params: Any) -> Any:
        """Makes the request `register.<request>` and returns its value as docs/child.md describes it."""
        named = {name: value for name, value in params.items() if value is not None}
        return self._asker._ask(f"register.{request}", {"register": self.name, **named})

    def read(self, *items: tuple[str, str]) -> list[Item | None]:
        """Reads items, each named by level and id, in one message: `read(("user", "ada"), ("page", page))`."""
        return _items(self.ask("read", items=[_named(level, id) for level, id in items]))

    def find(self, level: str, id: str = "") -> Item | None:
        """Reads an item, or None if there is none."""
        return self.read((level, id))[0]

    def create(self, level: str, id: str = "", *, replace: bool = False, fields: Any = None, data: Any = None) -> int:
        """Creates an item and returns its revision.

        Raises Conflict if it exists; with `replace` whatever was there is gone.
        """
        return self._write(level, id, create="replace" if replace else "new", fields=fields, data=data)

    def update(
        self,
        level: str,
        id: str = "",
        *,
        fields: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        unset: list[str] | None = None,
        keep_max: Mapping[str, float] | None = None,
        if_revision: int | None = None,
    ) -> int:
        """Changes an item and returns its revision. `None` removes a field, `unset` lists names of data to remove, and
        `keep_max` has numbers that are only raised.

        Raises Error with the code `unknown` if there is no such item, and Conflict if it is not at `if_revision`.
        """
        return self._write(level, id, fields=fields, data=data, unset=unset, keep_max=keep_max, if_revision=if_revision)

    def delete(self, level: str, id: str = "") -> None:
        """Deletes an item alone. `drop` deletes what belongs to it as well."""
        self._write(level, id, delete=True)

    def items(
        self,
        level: str,
        *,
        where: Mapping[str, Any] | None = None,
        prefix: Mapping[str, str] | None = None,
        with_data: bool = False,
    ) -> list[Item]:
        """Returns the items of a level whose fields have the values of `where` and begin with the texts of `prefix`."""
        return _items(self.ask("list", level=level, where=where, prefix=prefix, with_data=with_data or None))

    def relabel(self, connection: str, user: str, *, fields: Any = None, user_fields: Any = None) -> list[str]:
        """Gives a connection to a user who has logged in or out. Returns its pages."""
        found = self.ask("relabel", connection=connection, user=user, fields=fields, user_fields=user_fields)
        return found["pages"]  # type: ignore[no-any-return]

    def drop(self, level: str, id: str, *, cascade: bool = False) -> list[tuple[str, str]]:
        """Ends a page, connection or user with what belongs to it. Returns level and id of each item that has ended.

        With `cascade` a connection ends with its last page, and a user with the last connection.
        """
        dropped = self.ask("drop", level=level, id=id, cascade=cascade or None)["dropped"]
        return [(one["level"], one.get("id", "")) for one in dropped]

    def subscribe(self, page: str, *, tables: Any = (), paths: Any = ()) -> None:
        """Has a page follow tables, and prefixes of the changes of its user, from now on."""
        self.ask("subscribe", page=page, tables=dict.fromkeys(tables, True), paths=dict.fromkeys(paths, True))

    def unsubscribe(self, page: str, *, tables: Any = (), paths: Any = ()) -> None:
        """Ends `subscribe`."""
        self.ask("subscribe", page=page, tables=dict.fromkeys(tables, False), paths=dict.fromkeys(paths, False))

    def publish(
        self, to: Mapping[str, Any], *changes: Any, origin: str | None = None, reason: str | None = None
    ) -> int:
        """Publishes changes to pages and returns for how many they are now.

        `to` is `{"page": id}`, `{"pages": [id]}`, `{"connection": id}`, `{"user": name}` (with `path` those that follow
        it), `{"table": name}`, `{"where": fields}` or `{"all": True}`.
        """
        entry: dict[str, Any] = {"to": dict(to), "changes": list(changes)}
        if origin is not None:
            entry["origin"] = origin
        if reason is not None:
            entry["reason"] = reason
        return self.ask("publish", entries=[entry])["pages"][0]  # type: ignore[no-any-return]

    def take(self, page: str, *, peek: bool = False) -> Taken:
        """Returns what was published for a page since it took the last time. With `peek` it stays."""
        return _taken(self.ask("take", page=page, peek=peek or None))

    def store(self, level: str, id: str = "") -> Store:
        """Returns the data of an item as a mapping."""
        if level not in LEVELS:
            raise Error("malformed", f"a level is one of {', '.join(LEVELS)}, not {level!r}")
        return Store(self, level, id)

    def _write(self, level: str, id: str, **change: Any) -> int:
        op = {**_named(level, id), **{name: value for name, value in change.items() if value is not None}}
        [result] = self.ask("write", ops=[op])["results"]
        if "error" in result:
            raise error_of(result["error"])
        return result["revision"]  # type: ignore[no-any-return]


def _named(level: str, id: str) -> dict[str, Any]:
    return {"level": level, "id": id} if id else {"level": level}


class Store(MutableMapping[str, Any]):
    """The data of an item as a mapping of names to JSON values. The item is created with the first value.

    Each access outside of a `with` is a request. `with register.store("user", "ada") as store:` holds the lock of the
    item: it reads the item once, and writes what has changed at its end, unless the block raises. Only those who use
    `with` wait for each other.
    """

    def __init__(self, register: Register, level: str, id: str) -> None:
        self._register = register
        self._at = (level, id)
        self._lock: Lock | None = None
        self._data: dict[str, Any] = {}
        self._changed: dict[str, Any] = {}
        self._removed: set[str] = set()

    def __enter__(self) -> Store:
        lock = Lock(self._register._asker, ".".join(("register", self._register.name, *self._at)), _LEASE, _LEASE)  # type: ignore[arg-type]
        lock.__enter__()
        try:
            self._data = self._read()
        except BaseException:
            lock.__exit__(None, None, None)
            raise
        self._lock, self._changed, self._removed = lock, {}, set()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        lock, self._lock = self._lock, None
        try:
            if kind is None and (self._changed or self._removed):
                self._write(self._changed, sorted(self._removed))
        finally:
            if lock is not None:
                lock.__exit__(None, None, None)

    def __getitem__(self, name: str) -> Any:
        return self._present()[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if self._lock is None:
            self._write({name: value}, [])
            return
        self._data[name] = self._changed[name] = value
        self._removed.discard(name)

    def __delitem__(self, name: str) -> None:
        if name not in self._present():
            raise KeyError(name)
        if self._lock is None:
            self._write({}, [name])
            return
        del self._data[name]
        self._changed.pop(name, None)
        self._removed.add(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._present())

    def __len__(self) -> int:
        return len(self._present())

    def __repr__(self) -> str:
        return f"<store {' '.join(self._at).strip()} of {self._register.name}>"

    def _present(self) -> dict[str, Any]:
        return self._read() if self._lock is None else self._data

    def _read(self) -> dict[str, Any]:
        item = self._register.find(*self._at)
        return {} if item is None else item.data

    def _write(self, data: dict[str, Any], unset: list[str]) -> None:
        for _ in range(_TRIES):
            try:
                self._register.update(*self._at, data=data, unset=unset)
                return
            except Error as error:
                if error.code != "unknown":
                    raise
            try:
                self._register.create(*self._at, data=data)
                return
            except Error as error:  # another writer has created it
                if error.code != "conflict":
                    raise
        raise Error("rate_limited", "the item was created and deleted too often meanwhile", True)
