"""The page of one tab: what it shows, and what its user does in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest

from .models import Item
from .register import Conflict, Keys, Register, register

NO_NOTICE = {"text": "", "revision": 0}


class StorePage:
    """A page, rebuilt from the register for a request."""

    origin = "rebuilt"
    METHODS = ("filter", "move", "undo", "notice")

    def __init__(self, register: Register, keys: Keys) -> None:
        self.register, self.keys = register, keys
        self.items = register.read(keys)

    def call(self, method: str, params: dict) -> list[dict]:
        """Runs a method of the page, and returns the changes for all pages."""
        if method not in self.METHODS:
            raise TypeError(method)
        return getattr(self, method)(**params)

    def shown(self) -> dict:
        """Returns what the page shows."""
        text = self._data("page").get("filter", self._data("connection").get("filter", ""))
        rows = [item.row() for item in Item.objects.filter(name__icontains=text)]
        return {
            "filter": text,
            "rows": rows,
            "undo": len(self._data("page").get("moves", [])),
            "moved": self._data("user").get("moved", 0),
            "notice": self._data("global").get("notice", NO_NOTICE),
        }

    def filter(self, text: str) -> list[dict]:
        """Shows the items with a text in their name; the next page of this browser begins with it."""
        self._update("page", lambda data: data.update(filter=text))
        self._update("connection", lambda data: data.update(filter=text))
        return []

    def move(self, item: int, by: int) -> list[dict]:
        """Puts pieces in, or takes them out with a negative number."""
        row = Item.move(item, by).row()
        self._update("page", lambda data: data.setdefault("moves", []).append([item, by]))
        self._update("user", lambda data: data.update(moved=data.get("moved", 0) + abs(by)))
        return [row]

    def undo(self) -> list[dict]:
        """Takes back the last move of this page."""
        taken: list = []
        self._update("page", lambda data: taken.append(data.get("moves") and data["moves"].pop()))
        return [Item.move(taken[-1][0], -taken[-1][1]).row()] if taken[-1] else []

    def notice(self, text: str) -> list[dict]:
        """Writes a line that all pages show."""

        def change(data: dict) -> None:
            revision = data.get("notice", NO_NOTICE)["revision"] + 1
            data["notice"] = {"text": text, "revision": revision}

        self._update("global", change)
        return [{"notice": self._data("global")["notice"]}]

    def _data(self, level: str) -> dict[str, Any]:
        return self.items[level].data

    def _update(self, level: str, change: Callable[[dict], Any]) -> None:
        """Changes the data of an item; again with what another request has written first."""
        while True:
            item = self.items[level]
            change(item.data)
            try:
                item.revision = self.register.write(level, self.keys, item)
                return
            except Conflict:
                self.items = self.register.read(self.keys)


@contextmanager
def page_of(request: HttpRequest, keys: Keys) -> Iterator[StorePage]:
    """Gives a request its page, which is built from the register."""
    yield StorePage(register(), keys)
