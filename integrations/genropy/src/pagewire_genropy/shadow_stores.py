"""Stores in the shadow: each use is a use of the store in both registers.

Owns: the names that Genropy uses of a store and of its data. Never: a comparison (`shadow_pair`).
"""

from __future__ import annotations

from typing import Any, Callable

from .keys import Key, key_of
from .shadow_forms import form, of_change, of_item
from .shadow_pair import Pair
from .stores import READING, RemoteStoreBag, perform


class ShadowStore:
    """The store of an item in two registers."""

    def __init__(self, pair: Pair, register_name: str, register_item_id: Any) -> None:
        self.register_name = register_name
        self.register_item_id = register_item_id
        self._pair = pair
        self._first = pair.first.make_store(register_name, register_item_id)
        key = key_of(register_name, register_item_id)
        self._keys = [] if key is None else [key]

    def __enter__(self) -> ShadowStore:
        self._pair.write("lock", self._keys, self._first.__enter__, lambda: self._in_second("enter"))
        return self

    def __exit__(self, *error: Any) -> None:
        # the second one writes what the block has changed while the first one still excludes others
        self._pair.finish("unlock", self._keys, lambda: self._in_second("leave"))
        self._first.__exit__(*(error or (None, None, None)))

    def _in_second(self, name: str) -> None:
        for key in self._keys:
            getattr(self._pair.second().siteregister.core.working_set(), name)(key)

    @property
    def register_item(self) -> Any:
        """The item with its data, or None if there is none."""
        id, level = self.register_item_id, self.register_name

        def two() -> Any:
            return self._pair.second().get_item(id, include_data="lazy", register_name=level)

        item = self._pair.read("register_item", self._keys, lambda: self._first.register_item, two, of_item)
        return with_both(self._pair, item)

    @property
    def data(self) -> Any:
        """The data, or None if there is no such item."""
        found = self._first.data
        return None if found is None else ShadowBag(self._pair, found, self._keys)

    @property
    def datachanges(self) -> Any:
        """The changes that wait. Those for pages are compared when the page takes them."""
        if self.register_name != "user":
            return self._first.datachanges

        def two() -> Any:
            return [change for key in self._keys for change in self._pair.second().siteregister.datachanges(key)]

        def forms(changes: Any) -> list[Any]:
            return [of_change(change) for change in changes or ()]

        return self._pair.read("datachanges", self._keys, lambda: self._first.datachanges, two, forms)

    @property
    def subscribed_paths(self) -> Any:
        return self._first.subscribed_paths

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._first, name)
        if not callable(found):
            return found
        if name in _OF_STORE:
            return self._both(name, found)
        return bag_method(self._pair, self._keys, name, found)

    def _both(self, name: str, found: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            def two() -> Any:
                store = self._pair.second().make_store(self.register_name, self.register_item_id)
                return getattr(store, name)(*args, **kwargs)

            return self._pair.write(name, self._keys, lambda: found(*args, **kwargs), two)

        return call


_OF_STORE = frozenset({"set_datachange", "drop_datachanges", "reset_datachanges", "subscribe_path"})
"""Methods of a store. Each other one is a method of its data."""


class ShadowBag:
    """The data of an item in two registers."""

    def __init__(self, pair: Pair, first: Any, keys: list[Key]) -> None:
        self._pair = pair
        self._first = first
        self._keys = keys

    def _perform(self, name: str, *args: Any) -> Any:
        return bag_method(self._pair, self._keys, name, getattr(self._first, name))(*args)

    def __str__(self) -> str:
        return str(self._first)

    def __getitem__(self, path: str) -> Any:
        return self._perform("__getitem__", path)

    def __setitem__(self, path: str, value: Any) -> None:
        self._perform("__setitem__", path, value)

    def __len__(self) -> int:
        return int(self._perform("__len__") or 0)

    def __contains__(self, path: str) -> bool:
        return bool(self._perform("__contains__", path))

    def __eq__(self, other: object) -> bool:
        return bool(self._first == (other._first if isinstance(other, ShadowBag) else other))

    __hash__ = None  # type: ignore[assignment]

    def chunk(self, path: str) -> Any:
        """Returns what the first register returns, which is alone."""
        return self._first.chunk(path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._first, name)
        return bag_method(self._pair, self._keys, name, found) if callable(found) else found


def bag_method(pair: Pair, keys: list[Key], name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a method of the data of an item that is called in both registers. `found` is that of the first one."""

    def call(*args: Any, **kwargs: Any) -> Any:
        def one() -> Any:
            return found(*args, **kwargs)

        def two() -> Any:
            return perform(pair.second().siteregister, keys[0] if keys else None, name, args, kwargs)

        if name in READING:
            return pair.read(f"store.{name}", keys, one, two, form)
        return pair.write(f"store.{name}", keys, one, two)

    return call


def with_both(pair: Pair, answer: Any) -> Any:
    """Returns an item or items of the first register, whose lazy data are those of both."""
    if not isinstance(answer, dict):
        return answer
    if "register_item_id" not in answer:
        return {id: with_both(pair, item) for id, item in answer.items()}
    data = answer.get("data")
    if type(data).__name__ == RemoteStoreBag.__name__:
        key = key_of(answer["register_name"], answer["register_item_id"])
        return {**answer, "data": ShadowBag(pair, data, [] if key is None else [key])}
    return answer
