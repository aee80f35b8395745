"""Stores: the data of an item with the methods of a Bag, by value.

Owns: which methods change data, and the lock of a `with` block. Never: how data is read and written (`working_set`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from gnr.core.gnrbag import Bag

from . import codec
from .changes import DataChange, drop_queued, queued
from .draft import Draft
from .keys import Key, key_of

if TYPE_CHECKING:
    from .register import SiteRegister

READING = frozenset(
    {
        "__contains__",
        "__eq__",
        "__getitem__",
        "__iter__",
        "__len__",
        "__ne__",
        "__str__",
        "asDict",
        "asDictDeeply",
        "asString",
        "deepcopy",
        "digest",
        "get",
        "getAttr",
        "getDeepestNode",
        "getIndex",
        "getIndexList",
        "getInheritedAttributes",
        "getItem",
        "getLeaves",
        "getNode",
        "getNodeByAttr",
        "getNodeByValue",
        "getNodes",
        "has_key",
        "isEmpty",
        "items",
        "iteritems",
        "iterkeys",
        "itervalues",
        "keys",
        "nodes",
        "nodesByAttr",
        "sum",
        "toJson",
        "toXml",
        "values",
    }
)
"""Methods of a Bag that change nothing. Each other one is a change."""


def perform(register: SiteRegister, key: Key | None, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a method of the Bag of an item, and returns a copy of its value. Without the item the value is None."""
    working_set = register.core.working_set()
    if method in READING:
        view = working_set.view(key)
        if view is None:
            return None
        value = view.read(method, args, kwargs)
        return value if isinstance(value, bool) else codec.copied(_listed(value))
    given = codec.copied((args, kwargs))

    def change(draft: Draft) -> Any:
        # copied again, because the change may be made again after a conflict
        own_args, own_kwargs = codec.copied(given)
        return codec.copied(draft.apply(method, own_args, own_kwargs))

    return working_set.edit(key, change)


def _listed(value: Any) -> Any:
    """Returns a list for what can only be read once: it could not be copied."""
    return list(value) if hasattr(value, "__next__") else value


class RemoteStoreBag:
    """The data of an item: each use reads or changes the store, and shares nothing with it."""

    def __init__(
        self, register: SiteRegister, register_name: str, register_item_id: str, rootpath: str | None = None
    ) -> None:
        self.register = register
        self.register_name = register_name
        self.register_item_id = register_item_id
        self.rootpath = rootpath

    def chunk(self, path: str) -> RemoteStoreBag:
        """Returns a branch of the data."""
        below = f"{self.rootpath}.{path}" if self.rootpath else path
        return RemoteStoreBag(self.register, self.register_name, self.register_item_id, below)

    def _perform(self, method: str, *args: Any, **kwargs: Any) -> Any:
        key = key_of(self.register_name, self.register_item_id)
        if self.rootpath is None:
            return perform(self.register, key, method, args, kwargs)
        if method in READING:
            branch = perform(self.register, key, "getItem", (self.rootpath,), {})
            return None if branch is None else getattr(branch, method)(*args, **kwargs)
        given = codec.copied((args, kwargs))

        def change(draft: Draft) -> Any:
            own_args, own_kwargs = codec.copied(given)
            return codec.copied(draft.apply_below(self.rootpath or "", method, own_args, own_kwargs))

        return self.register.core.working_set().edit(key, change)

    def __str__(self) -> str:
        return str(self._perform("asString"))

    def __getitem__(self, path: str) -> Any:
        return self._perform("__getitem__", path)

    def __setitem__(self, path: str, value: Any) -> None:
        self._perform("__setitem__", path, value)

    def __len__(self) -> int:
        return self._perform("__len__") or 0

    def __contains__(self, path: str) -> bool:
        return bool(self._perform("__contains__", path))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RemoteStoreBag):
            other = other._perform("getItem", "")
        return bool(self._perform("__eq__", other))

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not hasattr(Bag, name):
            raise AttributeError(f"a Bag has no attribute {name!r}")
        return lambda *args, **kwargs: self._perform(name, *args, **kwargs)


class ServerStore:
    """The store of a page, connection or user, or the global one.

    `with store:` holds its lock; its changes are written at the end of the block. Without it, each change is written at
    once.
    """

    def __init__(
        self,
        parent: Any,
        register_name: str = "page",
        register_item_id: Any = None,
        triggered: Any = True,
        max_retry: int | None = None,
        retry_delay: float | None = None,
    ) -> None:
        self.siteregister = parent
        self.register_name = register_name
        self.register_item_id = register_item_id
        self._register: SiteRegister = parent.siteregister
        self._key = key_of(register_name, register_item_id)

    def __enter__(self) -> ServerStore:
        if self._key is not None:
            self._register.core.working_set().enter(self._key)
        return self

    def __exit__(self, *_: object) -> None:
        if self._key is not None:
            self._register.core.working_set().leave(self._key)

    @property
    def register_item(self) -> dict[str, Any] | None:
        """The item with its data, or None if there is none."""
        return self._register.get_item(self.register_item_id, include_data="lazy", register_name=self.register_name)

    @property
    def data(self) -> RemoteStoreBag | None:
        """The data, or None if there is no such item."""
        if self._register.core.working_set().view(self._key) is None:
            return None
        return RemoteStoreBag(self._register, self.register_name, self.register_item_id)

    @property
    def datachanges(self) -> list[DataChange]:
        """The changes that wait in the store of a user. Those of a page are kept by Pagewire and are not listed."""
        return self._register.datachanges(self._key)

    @property
    def subscribed_paths(self) -> set[str]:
        view = self._register.core.working_set().view(self._key)
        return set(view.member("subscribed_paths") or ()) if view is not None else set()

    def reset_datachanges(self) -> Any:
        """Removes all changes that wait."""
        return self._register.reset_datachanges(self.register_item_id, register_name=self.register_name)

    def set_datachange(
        self,
        path: str,
        value: Any = None,
        attributes: dict[str, Any] | None = None,
        fired: Any = False,
        reason: str | None = None,
        replace: Any = False,
        delete: Any = False,
    ) -> None:
        """Queues a change for the client."""
        item, level = self.register_item_id, self.register_name
        self._register.set_datachange(item, path, value, attributes, fired, reason, replace, delete, level)

    def drop_datachanges(self, path: str) -> None:
        """Removes the changes that wait and whose path begins with `path`."""
        self._register.drop_datachanges(self.register_item_id, path, self.register_name)

    def subscribe_path(self, path: str) -> None:
        """Sends each change of the data at or below a path to the client, from now on."""
        self._register.subscribe_path(self.register_item_id, path, register_name=self.register_name)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or not hasattr(Bag, name):
            raise AttributeError(f"a store has no attribute {name!r}")
        return lambda *args, **kwargs: perform(self._register, self._key, name, args, kwargs)


def queue_of(view: Draft) -> list[DataChange]:
    """Returns copies of the changes that wait in the store of a user."""
    return [DataChange(*codec.copied(change.state())) for change in queued(view)]


def empty_queue(draft: Draft) -> None:
    """Removes all changes of a user's queue."""
    drop_queued(draft, "")
