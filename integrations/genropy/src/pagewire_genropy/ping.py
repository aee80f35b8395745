"""The poll of a page: times, changes of its store, and the answer with what its pages have not received yet.

Owns: the envelope, and the message that a node fetches for the socket of a page. Never: where the changes come from
(`delivery`).
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Callable, Iterable

from gnr.core.gnrbag import Bag
from pagewire.errors import Conflict, Error

from .changes import DataChange
from .delivery import Delivery
from .draft import Draft, written
from .fields import item_of, moment
from .keys import Key
from .snapshot import Snapshot

if TYPE_CHECKING:
    from .core import Core

_REFRESH = 25.0
_REFRESH_GUEST = 8.0
"""Seconds for which times are not written again. A guest that is not refreshed for 40 s may be dropped, and polls every
30 s; a user counts as away after 60 s."""

_RUNNING = 5
"""Seconds for which a batch counts as running after its last report."""

Reader = Callable[[Any], Any]
"""Returns the value of typed text, and any other value as it is."""


class Ping:
    """Answers polls of one register."""

    def __init__(self, core: Core, delivery: Delivery, from_typed: Reader) -> None:
        self._core = core
        self._delivery = delivery
        self._from_typed = from_typed

    def answer(
        self,
        page_id: str | None,
        serverstore_changes: dict[str, Any] | None,
        children: dict[str, dict[str, Any]] | None,
        last_user_ts: Any,
        last_rpc: Any,
    ) -> Any:
        """Returns the envelope, or False if the page, its connection or its user is unknown."""
        if children:
            self._core.working_set().load([Key("page", child) for child in children], children)
        refreshed = [(page_id, last_user_ts, last_rpc)]
        for child, info in (children or {}).items():
            changes = {name: value for name, value in info.items() if name not in _CHILD_MEMBERS}
            if changes:
                self.set_serverstore_changes(child, changes)
            seen, rpc = (self._from_typed(info.get(name)) for name in ("_lastUserEventTs", "_lastRpc"))
            refreshed.append((child, seen, rpc))
        user = self.refresh(refreshed)
        if user is None or page_id is None:
            return False
        if serverstore_changes:
            self.set_serverstore_changes(page_id, serverstore_changes)
        envelope = Bag({"result": None})
        self._add(envelope, "dataChanges", user, page_id)
        if self._core.working_set().get(Key("page", page_id)) is None:
            return False  # it has missed changes
        for child in children or {}:
            self._add(envelope, f"childDataChanges.{child}", user, child)
        self._add_batch(envelope, user)
        return envelope

    def push(self, page_id: str | None, position: str | None) -> Any:
        """Returns what a page has not received yet as a message of its socket, or False if the page is unknown.

        `position` is that of the news in the log.
        """
        user = self.refresh([(page_id, None, None)])
        if user is None or page_id is None:
            return False
        number = int(position) if position and position.isdecimal() else None
        changes = self._delivery.take(user, page_id, number)
        if self._core.working_set().get(Key("page", page_id)) is None:
            return False  # it has missed changes
        return SocketMessage(changes)

    def _add(self, envelope: Any, path: str, user: str, page_id: str) -> None:
        changes = self._delivery.take(user, page_id)
        if changes:
            envelope.setItem(path, _bag_of(changes))

    def _add_batch(self, envelope: Any, user: str) -> None:
        working_set, key = self._core.working_set(), Key("user", user)
        owner = working_set.view(key)
        last = None if owner is None else owner.read("getItem", ("lastBatchUpdate",), {})
        if not last:
            return
        if (datetime.datetime.now() - last).total_seconds() < _RUNNING:
            envelope.setItem("runningBatch", True)
        else:
            working_set.edit(key, lambda draft: draft.apply("setItem", ("lastBatchUpdate", None), {}))

    def set_serverstore_changes(self, page_id: str, changes: dict[str, Any] | None) -> None:
        """Writes values that a page has changed in its copy of the store."""
        values = [(path, self._from_typed(value)) for path, value in (changes or {}).items()]

        def write(draft: Draft) -> None:
            for path, value in values:
                draft.apply("setItem", (path, value), {})

        if values:
            self._core.working_set().edit(Key("page", page_id), write)

    # times

    def refresh(self, pages: Iterable[tuple[Any, Any, Any]]) -> str | None:
        """Raises the times of pages, their connections and users. Returns the user of the first page, or None if one of
        the three is unknown.
        """
        raised: dict[Key, dict[str, float]] = {}
        owner: str | None = None
        for number, (page_id, seen, rpc) in enumerate(pages):
            found = self._owners(page_id)
            if number == 0:
                if len(found) < 3:
                    return None
                owner = found[2].id
            for key in found:
                _raise(raised.setdefault(key, {}), seen, rpc)
        self._write(raised)
        return owner

    def _owners(self, page_id: Any) -> list[Key]:
        """Returns the keys of a page, its connection and its user, as far as they exist."""
        found, working_set = [], self._core.working_set()
        key: Key | None = Key("page", str(page_id)) if page_id else None
        for above in ("connection", "user", None):
            snapshot = working_set.get(key)
            if key is None or snapshot is None:
                break
            found.append(key)
            id = snapshot.fields.get(above) if above else None
            key = Key(above, id) if above and id else None
        return found

    def _write(self, raised: dict[Key, dict[str, float]]) -> None:
        working_set = self._core.working_set()
        drafts = []
        for key, times in raised.items():
            snapshot = working_set.get(key)
            if snapshot is not None and _is_due(snapshot, times):
                draft = Draft(snapshot)
                draft.raised = times
                drafts.append((draft, {**key.wire(), "keep_max": times}))
        if not drafts:
            return
        try:
            ops = [{**op, "if_revision": draft.base.revision} for draft, op in drafts]
            for (draft, op), revision in zip(drafts, self._core.write(ops)):
                working_set.put(draft.key, written(draft, op, revision))
        except (Conflict, Error) as error:
            if not isinstance(error, Conflict) and error.code != "unknown":
                raise
            self._write_anyhow(drafts)

    def _write_anyhow(self, drafts: list[tuple[Draft, dict[str, Any]]]) -> None:
        """Writes times of items that others have changed meanwhile."""
        for draft, op in drafts:
            self._core.working_set().forget(draft.key)
            try:
                self._core.write([op])
            except Error as error:
                if error.code != "unknown":  # it has been dropped
                    raise

    def item(self, user: str | None) -> dict[str, Any] | None:
        """Returns a user as Genropy knows it."""
        found: Snapshot | None = self._core.working_set().get(Key("user", user)) if user else None
        return None if found is None else item_of("user", found.key.id, found.fields)


class SocketMessage:
    """Changes as the client of Genropy expects them from its socket. Its XML is empty if there are none."""

    def __init__(self, changes: list[DataChange]) -> None:
        self._changes = changes

    def toXml(self, **options: Any) -> str:
        if not self._changes:
            return ""
        message = Bag()
        message.setItem("command", "datachanges")
        message.setItem("data", _bag_of(self._changes))
        return message.toXml(**options)  # type: ignore[no-any-return]


_CHILD_MEMBERS = ("_lastUserEventTs", "_lastRpc", "_pageProfilers")


def _raise(times: dict[str, float], seen: Any, rpc: Any) -> None:
    for name, value in (("last_user_ts", moment(seen)), ("last_rpc_ts", moment(rpc))):
        if value is not None:
            times[name] = max(value, times.get(name, value))
    times["last_refresh_ts"] = datetime.datetime.now().timestamp()


def _is_due(snapshot: Snapshot, times: dict[str, float]) -> bool:
    """Returns whether a time is so much newer than the stored one that it is written."""
    guest = str(snapshot.fields.get("user") or snapshot.key.id).startswith("guest_")
    patience = _REFRESH_GUEST if guest else _REFRESH
    return any(value - snapshot.fields.get(name, 0) > patience for name, value in times.items())


def _bag_of(changes: list[DataChange]) -> Any:
    bag = Bag()
    for number, change in enumerate(changes):
        bag.setItem(
            f"sc_{number}",
            change.value,
            change_path=change.path,
            change_reason=change.reason,
            change_fired=change.fired,
            change_attr=change.attributes,
            change_ts=change.change_ts,
            change_delete=change.delete,
        )
    return bag
