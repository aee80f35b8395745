"""The register in Pagewire, which is the same for all processes and nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pagewire
from pagewire.register import Register as Store

from .register import LEVELS, Conflict, Gone, Item, Keys

TABLE = "store"
PAGE_S = 60  # a page that has asked nothing for so long is closed
SEEN_S = 15  # how exactly it is known when a page has asked


class PagewireRegister:
    """Asks Pagewire over the connection that this process has anyway, or as a program beside the site over the server API.

    All items of a page come in one message.
    """

    def open(self, keys: Keys) -> None:
        self._sweep()
        fields = {"user": keys.user, "connection": keys.connection, "seen": time.time()}
        self._store.create("page", keys.page, fields=fields)
        self._store.subscribe(keys.page, tables=[TABLE])
        self.read(keys)

    def read(self, keys: Keys) -> dict[str, Item]:
        found = self._items(keys)
        while None in found.values():
            self._complete(keys, found)
            found = self._items(keys)
        fields = found["page"].fields
        if (fields["connection"], fields["user"]) != (keys.connection, keys.user):
            raise Gone(keys.page)
        items = {level: Item(item.data, item.revision) for level, item in found.items()}
        if fields["seen"] < time.time() - SEEN_S:
            items["page"].revision = self._update("page", keys, keep_max={"seen": time.time()})
        return items

    def write(self, level: str, keys: Keys, item: Item) -> int:
        return self._update(level, keys, data=item.data, if_revision=item.revision)

    def close(self, keys: Keys) -> None:
        self._store.drop("page", keys.page, cascade=True)

    def publish(self, changes: list[dict]) -> None:
        self._store.publish({"table": TABLE}, *changes)

    def take(self, keys: Keys) -> list[dict] | None:
        taken = _refused(lambda: self._store.take(keys.page), unknown=Gone(keys.page))
        return None if taken.reset else [change for entry in taken.entries for change in entry.changes]

    def pages(self) -> dict[str, str]:
        return {item.id: item.fields["user"] for item in self._store.items("page")}

    @property
    def _store(self) -> Store:
        return pagewire.current().register("store")

    def _items(self, keys: Keys) -> dict[str, Any]:
        return dict(zip(LEVELS, self._store.read(*((level, keys.of(level)) for level in LEVELS))))

    def _update(self, level: str, keys: Keys, **change: Any) -> int:
        # what a page belongs to is there again when it is read again
        gone = Gone(keys.page) if level == "page" else Conflict(level)
        return _refused(lambda: self._store.update(level, keys.of(level), **change), unknown=gone)

    def _complete(self, keys: Keys, found: dict[str, Any]) -> None:
        """Adds what a page belongs to: it is new, or has ended with another page while this one was opened."""
        if found["page"] is None:
            raise Gone(keys.page)
        for level in [level for level, item in found.items() if item is None]:
            with suppress(pagewire.Conflict):  # another page was first
                self._store.create(level, keys.of(level), fields={"user": keys.user} if level == "connection" else {})

    def _sweep(self) -> None:
        """Closes the pages that were not used."""
        for page in self._store.items("page"):
            if page.fields["seen"] < time.time() - PAGE_S:
                self._store.drop("page", page.id, cascade=True)


def _refused(ask: Callable[[], Any], unknown: Exception) -> Any:
    """Returns an answer, or raises what a refusal means to the application."""
    try:
        return ask()
    except pagewire.Conflict as conflict:
        raise Conflict(str(conflict)) from conflict
    except pagewire.Error as error:
        raise unknown if error.code == "unknown" else error from error
