"""How an item that was there before the shadow gets into the second register.

Owns: copying one item of the first register, the mark of items that were copied or made in the shadow, and the end of
items without the mark. Never: comparing.

The mark names the run of the daemon. So what the second register has kept from an earlier time is replaced, and what an
earlier daemon had as well.
"""

from __future__ import annotations

import threading
from typing import Any, Iterator

from gnr.core.gnrbag import Bag
from pagewire.errors import Conflict, Error

from . import codec
from .changes import DataChange
from .fields import REFRESHED, moment, stored
from .keys import GLOBAL, Key, key_of
from .shadow_report import Report
from .siteregister_client import SiteRegisterClient
from .snapshot import MEMBER, branches

MARK = "shadow"
_ABOVE = {"page": ("connection", "connection_id"), "connection": ("user", "user")}


class Adoption:
    """The way of items from the first register into the second one."""

    def __init__(self, first: Any, second: SiteRegisterClient, report: Report) -> None:
        self._first = first
        self._second = second
        self._core = second.siteregister.core
        self._report = report
        self._behind: set[Key] = set()
        self._copying = threading.RLock()
        born = first.get_item(GLOBAL.id, register_name=GLOBAL.level)["start_ts"]
        self._mark = born.isoformat()
        second.siteregister.born_with({MARK: self._mark})

    def ensure_all(self, keys: list[Key]) -> None:
        """Copies those items that are not there or are behind."""
        for key in keys:
            self.ensure(key)

    def ensure(self, key: Key) -> None:
        """Copies an item, unless it is there and is not behind.

        An item whose lock this thread holds is changed at the end of its section, and copied after that.
        """
        if key not in self._behind and self._is_marked(key):
            return
        if self._core.locks.section(key) is not None:
            return
        with self._copying:
            # another thread may have copied it meanwhile
            self._core.working_set().forget(key)
            if key in self._behind or not self._is_marked(key):
                self._behind.discard(key)
                self._copy(key)

    def mistrust(self, keys: list[Key]) -> None:
        """Has items copied again before their next use: they differ, or the second register has failed."""
        self._behind.update(keys)

    def sweep(self, level: str) -> None:
        """Copies all items of a level that are not there, and ends those of an earlier time."""
        known = {"page": self._first.pages, "connection": self._first.connections, "user": self._first.users}[level]()
        listed = {one["id"]: one["fields"] for one in self._core.ask("register.list", level=level)["items"]}
        for id in known:
            if listed.get(id, {}).get(MARK) != self._mark:
                self.ensure(Key(level, id))
        for id, fields in listed.items():
            if id not in known and fields.get(MARK) != self._mark:
                self._drop(Key(level, id))

    def _is_marked(self, key: Key) -> bool:
        found = self._core.working_set().get(key)
        return found is not None and found.fields.get(MARK) == self._mark

    def _copy(self, key: Key) -> None:
        item = self._first.get_item(key.id, register_name=key.level)
        # not with `include_data`: the daemon would send the data with each answer from then on
        data = self._first.make_store(key.level, key.id).getItem("") if item else None
        if item is None or data is None:
            self._drop(key)
            return
        above, name = _ABOVE.get(key.level, ("", ""))
        owner = key_of(above, item[name]) if above else None
        if owner is not None:
            self.ensure(owner)
        op, tables = operation(key, item, data, self._mark)
        known = self._core.working_set().get(key)
        if known is None or not known.revision:
            op["create"] = "new"
        if key == GLOBAL:
            op["data"].update(self._own_members())
        self._core.working_set().forget(key)
        try:
            self._core.write([op])
        except Conflict:
            return  # another process has copied it
        if tables:
            self._core.note_caching(self._core.working_set(), tables)
        if key.level == "page":
            self._copy_page(key.id, item)
        self._report.adopted()

    def _copy_page(self, page_id: str, item: dict[str, Any]) -> None:
        for table in item["subscribed_tables"]:
            self._second.siteregister.subscribeTable(page_id, table, True)
        waiting = [DataChange(*state_of(change, None)) for change in item["datachanges"]]
        if waiting:
            self._second.siteregister.delivery.send(waiting, [page_id])

    def _own_members(self) -> dict[str, str]:
        """Returns what the second register keeps in the global item beside its data, which is not copied."""
        known = self._core.working_set().get(GLOBAL)
        return {} if known is None else {name: known.data[name] for name in known.names(MEMBER)}

    def _drop(self, key: Key) -> None:
        if key.level == "global" or self._core.working_set().get(key) is None:
            return
        try:
            self._core.ask("register.drop", level=key.level, id=key.id, cascade=False)
        except Error as error:
            if error.code != "unknown":
                raise
        self._core.working_set().put(key, None)


def operation(key: Key, item: dict[str, Any], data: Any, mark: str) -> tuple[dict[str, Any], set[str]]:
    """Returns the operation of `register.write` that makes the copy of an item, and the tables that it caches."""
    times = {name: moment(item.get(name)) for name in ("start_ts", *REFRESHED)}
    cached: dict[str, list[str]] = {}
    for table, path in _cached(data, ()):
        cached.setdefault(table, []).append(path)
    fields = {**stored(key.level, item), **times, MARK: mark}
    if cached and key.level != "global":
        fields["cached"] = f",{','.join(sorted(cached))},"
    members = {"subscribed_paths": sorted(item["subscribed_paths"]), "avatar_extra": item.get("avatar_extra")}
    members["cached"] = cached if key.level != "global" else None
    texts = {MEMBER + name: codec.dump(value) for name, value in members.items() if value}
    if key.level == "user":
        texts.update(_queue(item))
    op = {
        **key.wire(),
        "create": "replace",
        "fields": {name: value for name, value in fields.items() if value is not None},
        "data": {**branches(data), **texts},
    }
    return op, set(cached) if key.level != "global" else set()


def _queue(item: dict[str, Any]) -> dict[str, str]:
    changes = item["datachanges"]
    states = {f"q.{change.change_idx}": codec.dump(state_of(change, change.change_idx)) for change in changes}
    return {**states, MEMBER + "idx": codec.dump(item["datachanges_idx"])}


def state_of(change: Any, number: int | None) -> tuple[Any, ...]:
    """Returns the arguments of `DataChange` for a change of the framework."""
    flags = bool(change.delete), False
    return (change.path, change.value, change.attributes, change.reason, change.fired, *flags, change.change_ts, number)


def _cached(bag: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for node in bag:
        labels = (*path, node.label)
        if node.attr.get("_caching_table"):
            yield node.attr["_caching_table"], ".".join(labels)
        value = node.getValue("static")
        if isinstance(value, Bag):
            yield from _cached(value, labels)
