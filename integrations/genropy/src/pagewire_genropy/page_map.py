"""The pages of a connection by id, of which mostly only the ids are used.

Owns: reading the items when one is looked at. Never: the ids.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping


class PageMap(Mapping[str, Any]):
    """Pages by id. Their items are read at the first look at one."""

    def __init__(self, ids: list[str], read: Callable[[], dict[str, Any]]) -> None:
        self._ids = dict.fromkeys(ids)
        self._read = read
        self._items: dict[str, Any] | None = None

    def __contains__(self, id: object) -> bool:
        return id in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids if self._items is None else self._items)

    def __len__(self) -> int:
        return len(self._ids if self._items is None else self._items)

    def __getitem__(self, id: str) -> Any:
        if self._items is None:
            self._items = self._read()
        return self._items[id]
