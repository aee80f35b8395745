"""What one request has read of the register, and its changes.

Owns: when an item is read again, how a change is written and made again after a conflict. Never: what changes mean.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Iterable

from pagewire.errors import Conflict, Error

from .draft import Draft, Operation, written
from .keys import Key
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .core import Core

LIFETIME = 0.25
"""Seconds for which a request believes what it has read. Long requests, such as a batch that may be cancelled, read
again after that."""

_TRIES = 40


class WorkingSet:
    """The items that a request has read, in its thread. Without a request, each use reads again."""

    def __init__(self, core: Core, request: Any = None) -> None:
        self._core = core
        self._lifetime = LIFETIME if request is not None else 0.0
        self._held: dict[Key, tuple[float, Snapshot | None]] = {}
        self._pages: dict[str, tuple[float, list[str]]] = {}
        self._quiet: dict[str, float] = {}

    # reading

    def get(self, key: Key | None) -> Snapshot | None:
        """Returns an item, or None if it does not exist."""
        if key is None:
            return None
        held = self._held.get(key)
        if held is not None and time.monotonic() - held[0] < self._lifetime:
            return held[1]
        return self.load([key])[0]

    def load(self, keys: Iterable[Key], news_of: Iterable[str] = ()) -> list[Snapshot | None]:
        """Reads items now, in one message, with whether some pages have news."""
        wanted = list(keys)
        at = time.monotonic()
        try:
            connection = next((key.id for key in wanted if key.level == "connection"), None)
            snapshots, pages, quiet = self._core.read(wanted, connection, news_of)
            self._quiet.update(dict.fromkeys(quiet, at))
            if connection is not None:
                self._pages[connection] = (at, pages)
        except Error as error:
            if error.code != "too_large" or len(wanted) == 1:
                raise
            snapshots = [self._core.read([key]).snapshots[0] for key in wanted]
        for key, snapshot in zip(wanted, snapshots):
            self._held[key] = (at, snapshot)
        return snapshots

    def may_have_news(self, page: str) -> bool:
        """Returns False if nothing was published for a page when this request has read whether there is something."""
        at = self._quiet.get(page)
        return at is None or time.monotonic() - at >= self._lifetime

    def expect_news(self) -> None:
        """Forgets which pages had no news."""
        self._quiet.clear()

    def pages_of(self, connection: str) -> list[str]:
        """Returns the ids of the pages of a connection."""
        held = self._pages.get(connection)
        if held is None or time.monotonic() - held[0] >= self._lifetime:
            self.load([Key("connection", connection)])
            held = self._pages.get(connection, (0.0, []))
        # what this request has read or written is newer than the index of another node
        own = [one.key.id for one in self.held("page") if one.fields.get("connection") == connection]
        gone = {key.id for key, (_, one) in self._held.items() if key.level == "page" and one is None}
        return list(dict.fromkeys([*own, *(page for page in held[1] if page not in gone)]))

    def held(self, level: str) -> list[Snapshot]:
        """Returns the items of a level that this request has read."""
        return [one for key, (_, one) in self._held.items() if key.level == level and one is not None]

    def forget(self, key: Key) -> None:
        """Reads the item at its next use."""
        self._held.pop(key, None)

    def forget_all(self) -> None:
        """Reads each item, and which pages there are, at the next use."""
        self._held.clear()
        self._pages.clear()

    def put(self, key: Key, snapshot: Snapshot | None) -> None:
        """Keeps what was written."""
        if snapshot is not None:
            self._core.replicas.put(snapshot)
        else:
            self._core.replicas.drop(key)
        self._held[key] = (time.monotonic(), snapshot)

    def view(self, key: Key | None) -> Draft | None:
        """Returns an item with the changes that this thread has not written yet, or None. It must not be changed."""
        section = None if key is None else self._core.locks.section(key)
        if section is not None and section.draft is not None:
            return section.draft
        snapshot = self.get(key)
        return None if snapshot is None else Draft(snapshot)

    # changing

    def edit(self, key: Key | None, operation: Operation) -> Any:
        """Applies a change: now, or at the end of the section if this thread holds the lock. Returns its value, or None
        if there is no such item. The operation may be called several times.
        """
        if key is None:
            return None
        section = self._core.locks.section(key)
        if section is None:
            return self._edit_now(key, [operation])
        if section.draft is None:
            snapshot = self.get(key)
            if snapshot is None:
                return None
            section.draft = Draft(snapshot)
        section.operations.append(operation)
        return operation(section.draft)

    def _edit_now(self, key: Key, operations: list[Operation]) -> Any:
        for attempt in range(_TRIES):
            snapshot = self.get(key)
            if snapshot is None:
                return None
            draft = Draft(snapshot)
            values = [operation(draft) for operation in operations]
            if self._write(draft):
                return values[-1]
            time.sleep(random.uniform(0, min(0.1, 0.001 * 2**attempt)))
        raise Conflict(f"the {key.level} item {key.id} is changed by others all the time", True)

    def _write(self, draft: Draft) -> bool:
        """Writes a change. Returns False if the item has been changed since it was read."""
        if draft.caching:
            self._core.note_caching(self, draft.caching)
        op = draft.op()
        if op is not None:
            base = draft.base
            op["if_revision"] = base.revision
            try:
                revision = self._core.write([self._created(op, base)])[0]
            except Conflict:
                self.forget(base.key)
                return False
            except Error as error:
                if error.code != "unknown":
                    raise
                self.put(base.key, None)  # it has been dropped
                return True
            self.put(base.key, written(draft, op, revision))
        if draft.notices:
            self._core.announce(draft)
        return True

    @staticmethod
    def _created(op: dict[str, Any], base: Snapshot) -> dict[str, Any]:
        """Returns the operation for an item that only exists here so far: the global one."""
        if base.revision:
            return op
        data = op.get("data", {})
        return {**base.key.wire(), "create": "new", "fields": op.get("fields", {}), "data": data}

    # sections

    def enter(self, key: Key) -> None:
        """Locks an item, and reads it if its lock was acquired now."""
        if self._core.locks.enter(key):
            self.forget(key)

    def leave(self, key: Key) -> None:
        """Writes the changes of a section and unlocks its item."""
        section = self._core.locks.leave(key)
        if section is None:
            return
        try:
            draft, section.draft = section.draft, None
            if draft is not None and not self._write(draft):
                self._core.locks.detach(key)
                self._edit_now(key, section.operations)
        finally:
            self._core.locks.release(key, section)
