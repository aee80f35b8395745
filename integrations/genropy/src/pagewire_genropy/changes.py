"""Data changes: what a page is told to set in its client.

Owns: their form in the register, and the queue of a user's store. Never: who receives them (`delivery`).

A change for pages is published. A change of a user's store stays in the queue of the user item, because a page that
subscribes later receives it as well: the first message of a chat is older than the page's window of the chat.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from . import codec

if TYPE_CHECKING:
    from .draft import Draft

_QUEUED = 400
"""Changes that the queue of a user keeps. The oldest ones make room."""

_QUEUED_BYTES = 200_000


class DataChange:
    """A change with the attributes that Genropy reads of its `ClientDataChange`."""

    __slots__ = ("attributes", "change_idx", "change_ts", "delete", "fired", "path", "reason", "replace", "value")

    def __init__(
        self,
        path: str,
        value: Any = None,
        attributes: dict[str, Any] | None = None,
        reason: str | None = None,
        fired: Any = False,
        delete: bool = False,
        replace: bool = False,
        change_ts: datetime.datetime | None = None,
        change_idx: int | None = None,
    ) -> None:
        self.path = path
        self.value = value
        self.attributes = attributes
        self.reason = reason
        self.fired = fired
        self.delete = delete
        self.replace = replace
        self.change_ts = change_ts or datetime.datetime.now()
        self.change_idx = change_idx

    def __repr__(self) -> str:
        return f"Datachange path:{self.path}, reason:{self.reason}, value:{self.value}, attributes:{self.attributes}"

    def is_same(self, other: DataChange) -> bool:
        """Returns whether one of both may replace the other."""
        return (self.path, self.reason, bool(self.fired)) == (other.path, other.reason, bool(other.fired))

    def wire(self) -> dict[str, Any]:
        """Returns the change as it is published."""
        return {"path": self.path, "change": codec.dump(self.state())}

    def state(self) -> tuple[Any, ...]:
        """Returns the arguments that make this change again."""
        return (
            self.path,
            self.value,
            self.attributes,
            self.reason,
            self.fired,
            self.delete,
            self.replace,
            self.change_ts,
            self.change_idx,
        )


def server_change(path: str, value: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    """Returns the change of a subscribed path of a store, as it is published."""
    return DataChange(path, value, attributes, reason="serverChange").wire()


def received(entries: list[dict[str, Any]]) -> list[DataChange]:
    """Returns the changes that a page has taken. One that replaces removes the equal ones before it."""
    found: list[DataChange] = []
    for entry in entries:
        for sent in entry["changes"]:
            change = DataChange(*codec.load(sent["change"]))
            if change.replace:
                found = [older for older in found if not change.is_same(older)]
            found.append(change)
    return found


# the queue of a user's store


def queued(draft: Draft) -> list[DataChange]:
    """Returns the queue of a user, the oldest change first. Values must not be changed."""
    return [DataChange(*draft.member(name)) for name in draft.queue_names()]


def enqueue(draft: Draft, change: DataChange) -> None:
    """Adds a change to the queue of a user."""
    number = (draft.member("idx") or 0) + 1
    draft.set_member("idx", number)
    if change.replace:
        for name in draft.queue_names():
            if change.is_same(DataChange(*draft.member(name))):
                draft.set_member(name, None)
    state = (*change.state()[:-1], number)
    draft.set_member(f"q.{number}", state)
    _make_room(draft, len(codec.dump(state)))


def _make_room(draft: Draft, added: int) -> None:
    names = draft.queue_names()
    held = added + sum(len(draft.base.data.get(name, "")) for name in names)
    while len(names) > _QUEUED or (held > _QUEUED_BYTES and len(names) > 1):
        oldest = names.pop(0)
        held -= len(draft.base.data.get(oldest, ""))
        draft.set_member(oldest, None)


def drop_queued(draft: Draft, path: str) -> None:
    """Removes the changes of a user's queue whose path begins with a prefix."""
    for name in draft.queue_names():
        if draft.member(name)[0].startswith(path):
            draft.set_member(name, None)
