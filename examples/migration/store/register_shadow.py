"""Two registers at once: the first one answers, the second one is asked as well, and differences are in the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from .register import Conflict, Gone, Item, Keys, Register

log = logging.getLogger("store.shadow")


class ShadowRegister:
    """Does everything in two registers. The first one decides."""

    def __init__(self, first: Register, second: Register) -> None:
        self._first, self._second = first, second
        self._lock = threading.Lock()
        # what one of both has given a page and the other not yet: (of the first, change)
        self._ahead: dict[str, list[tuple[bool, dict]]] = {}

    def open(self, keys: Keys) -> None:
        self._first.open(keys)
        self._second.open(keys)

    def read(self, keys: Keys) -> dict[str, Item]:
        one, two = self._both(lambda register: register.read(keys))
        if isinstance(one, dict) and isinstance(two, Gone):
            self._adopt(keys, one)
        elif _data(one) != _data(two):
            # once more, because a request of another page may have been between
            one, two = self._both(lambda register: register.read(keys))
            if _data(one) != _data(two):
                log.warning("a register differs: read %s: %r and %r", keys.page, _data(one), _data(two))
        if isinstance(one, Gone):
            raise one
        return one

    def write(self, level: str, keys: Keys, item: Item) -> int:
        revision = self._first.write(level, keys, item)
        self._copy(level, keys, item)
        return revision

    def close(self, keys: Keys) -> None:
        self._first.close(keys)
        self._second.close(keys)
        with self._lock:
            self._ahead.pop(keys.page, None)

    def publish(self, changes: list[dict]) -> None:
        self._first.publish(changes)
        self._second.publish(changes)

    def take(self, keys: Keys) -> list[dict] | None:
        one, two = self._first.take(keys), self._second.take(keys)
        with self._lock:
            before = self._ahead.get(keys.page, [])
            ahead = list(before)
            for is_first, changes in ((True, one or []), (False, two or [])):
                for change in changes:
                    twin = (not is_first, change)
                    ahead.remove(twin) if twin in ahead else ahead.append((is_first, change))
            late = [entry for entry in before if entry in ahead]
            self._ahead[keys.page] = [entry for entry in ahead if entry not in late]
        for is_first, change in late:
            log.warning("a register differs: take %s: only the %s one has %s", keys.page, _name(is_first), change)
        return one

    def pages(self) -> dict[str, str]:
        one, two = self._both(lambda register: register.pages())
        if two.keys() - one.keys():
            one, two = self._both(lambda register: register.pages())
        if more := two.keys() - one.keys():
            log.warning("a register differs: pages: only the second one has %s", sorted(more))
        return one

    def _adopt(self, keys: Keys, items: dict[str, Item]) -> None:
        """Gives the second register a page that was opened before it was asked."""
        self._second.open(keys)
        for level in items:
            self._copy(level, keys, items[level])

    def _copy(self, level: str, keys: Keys, item: Item) -> None:
        """Writes into the second register, which has revisions of its own, what the first one has."""
        while True:
            try:
                revision = self._second.read(keys)[level].revision
                self._second.write(level, keys, Item(item.data, revision))
                return
            except Conflict:
                continue  # another request was first
            except Gone:
                log.warning("a register differs: write %s: the second one has no such page", keys.page)
                return

    def _both(self, ask: Callable[[Register], Any]) -> tuple[Any, Any]:
        """Asks both. Gone is an answer, too."""
        return _outcome(ask, self._first), _outcome(ask, self._second)


def _outcome(ask: Callable[[Register], Any], register: Register) -> Any:
    try:
        return ask(register)
    except Gone as gone:
        return gone


def _data(outcome: dict[str, Item] | Gone) -> Any:
    return "gone" if isinstance(outcome, Gone) else {level: item.data for level, item in outcome.items()}


def _name(is_first: bool) -> str:
    return "first" if is_first else "second"
