"""Lists of pages, connections and users, from the index of the register.

Owns: the request `register.list` and its items as Genropy knows them. Never: data, unless it is asked for.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from . import filters
from .fields import item_of
from .keys import Key
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .core import Core

Item = dict[str, Any]


class Listing:
    """The items of a register by level and conditions."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def items(self, level: str, with_data: bool = False, **where: Any) -> list[Item]:
        """Returns the items whose fields are equal to the given ones."""
        return self._found(level, with_data, where, {})

    def pages(
        self, connection_id: str | None, user: str | None, filter: str | None, with_data: bool = False
    ) -> list[Item]:
        """Returns the pages of a connection or user that match a filter."""
        wanted = filters.conditions(filter)
        where = {"connection": connection_id, "user": user}
        found = self._found("page", with_data, where, filters.prefixes(wanted))
        return [page for page in found if filters.matches(page, wanted)]

    def caching(self, level: str, table: str) -> list[Key]:
        """Returns the items that cache values of a table."""
        found = self._core.ask("register.list", level=level, prefix={"cached": ","})["items"]
        return [Key(level, item["id"]) for item in found if f",{table}," in item["fields"]["cached"]]

    def _found(self, level: str, with_data: bool, where: dict[str, Any], prefix: dict[str, str]) -> list[Item]:
        params: dict[str, Any] = {"level": level}
        equal = {name: value for name, value in where.items() if value is not None}
        if equal:
            params["where"] = equal
        if prefix:
            params["prefix"] = prefix
        if with_data:
            params["with_data"] = True
        found = self._core.ask("register.list", **params)["items"]
        return [self._item(level, one, with_data) for one in found]

    def _item(self, level: str, found: dict[str, Any], with_data: bool) -> Item:
        fields = found.get("fields") or {}
        item = {
            **item_of(level, found["id"], fields),
            "datachanges": [],
            "datachanges_idx": 0,
            "subscribed_paths": set(),
        }
        if with_data:
            key = Key(level, found["id"])
            item["data"] = Snapshot(key, found["revision"], fields, found.get("data") or {}).new_bag()
        return item


def age(item: Item) -> float:
    """Returns for how many seconds an item has not been refreshed."""
    since = item.get("last_refresh_ts") or item["start_ts"]
    return float((datetime.datetime.now() - since).total_seconds())
