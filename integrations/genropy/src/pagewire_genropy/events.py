"""Events of tables: which pages subscribe a table, what they are told, and which cached values end with it.

Owns: the verbs about tables. Never: how a page receives a change (`delivery`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .changes import DataChange
from .draft import Draft
from .keys import GLOBAL, Key
from .listing import Listing

if TYPE_CHECKING:
    from .core import Core


class Events:
    """The events of one register."""

    def __init__(self, core: Core, listing: Listing) -> None:
        self._core = core
        self._listing = listing

    def subscribe(self, page_id: str, table: str, subscribe: Any) -> None:
        """Begins or ends to send events of a table to a page. Raises Error if there is no such page."""
        working_set, key = self._core.working_set(), Key("page", page_id)
        page = working_set.view(key)
        if page is not None and bool(subscribe) == (table in (page.member("tables") or ())):
            return
        self._core.ask("register.subscribe", page=page_id, tables={table: bool(subscribe)})
        working_set.forget(key)
        working_set.edit(key, lambda draft: _note(draft, table, bool(subscribe)))

    def subscribed(self, tables: Any) -> list[str]:
        """Returns those tables that at least one page subscribes."""
        wanted = sorted(set(tables))
        return list(self._core.ask("register.tables", tables=wanted)["tables"]) if wanted else []

    def notify(self, events: dict[str, Any], origin: str | None, reason: str | None) -> None:
        """Tells the pages that subscribe a table what has changed in it, the page that has changed it as well."""
        entries = []
        for table, changes in events.items():
            if not changes:
                continue
            self._end_cached(table)
            path = f"gnr.dbchanges.{table.replace('.', '_')}"
            change = DataChange(path, changes, {"from_page_id": origin, "dbevent_reason": reason})
            entry: dict[str, Any] = {"to": {"table": table}, "changes": [change.wire()]}
            if origin:
                entry["origin"] = origin
            if reason:
                entry["reason"] = reason
            entries.append(entry)
        if entries:
            self._core.publish(entries)

    def _end_cached(self, table: str) -> None:
        known = self._core.working_set().get(GLOBAL)
        if known is None or table not in (known.member("caching") or ()):
            return
        for level in ("page", "connection", "user"):
            for key in self._listing.caching(level, table):
                self._core.working_set().edit(key, lambda draft: _empty(draft, table))


def _note(draft: Draft, table: str, subscribe: bool) -> None:
    """Notes what a page subscribes, which the register does not tell."""
    others = [name for name in draft.member("tables") or () if name != table]
    draft.set_member("tables", [*others, table] if subscribe else others)


def _empty(draft: Draft, table: str) -> None:
    cached = dict(draft.member("cached") or {})
    for path in cached.pop(table, ()):
        draft.apply("__setitem__", (path, None), {})
    draft.set_cached(cached)
