"""How changes reach a page: those that were published for it, and those of its user's store that it subscribes.

Owns: sending to pages, taking for a page, offsets in the queue of a user. Never: the answer to the page (`ping`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagewire.errors import Error

from . import codec
from .changes import DataChange, drop_queued, enqueue, queued, received
from .keys import Key, key_of
from .listing import Listing

if TYPE_CHECKING:
    from .core import Core
    from .draft import Draft


_NAMED = 5000
"""Pages that one publication may name."""


class Delivery:
    """The data changes of one register."""

    def __init__(self, core: Core, listing: Listing) -> None:
        self._core = core
        self._listing = listing

    # sending

    def set_datachange(self, id: Any, change: DataChange, level: str) -> None:
        """Queues a change for a page or for the store of a user. The queues of the other levels are not read."""
        key = key_of(level, id)
        if key is None:
            return
        if level == "page":
            self.send([change], [key.id])
        elif level == "user":
            self._core.working_set().edit(key, lambda draft: enqueue(draft, change))
            if self._core.has_sockets():
                # nothing to take: it tells those who watch the log that the pages of the user have news
                self._core.publish([{"to": {"user": key.id}, "changes": []}])

    def drop(self, id: Any, path: str, level: str) -> None:
        """Removes changes that wait, by the beginning of their path."""
        key = key_of(level, id)
        if key is None:
            return
        if level == "page":
            self._core.ask("register.withdraw", page=key.id, path=path)
        elif level == "user":
            self._core.working_set().edit(key, lambda draft: drop_queued(draft, path))

    def set_in_client(self, sent: list[DataChange], page_id: str | None, filters: str | None) -> None:
        """Sends changes to the pages that match, or to one page."""
        if filters == "*":
            self.send_to_all(sent)
        elif filters:
            self.send(sent, [page["register_item_id"] for page in self._listing.pages(None, None, filters)])
        elif page_id:
            self.send(sent, [page_id])

    def send_to_all(self, sent: list[DataChange]) -> None:
        self._core.publish([{"to": {"all": True}, "changes": [change.wire() for change in sent]}])

    def send(self, sent: list[DataChange], pages: list[str]) -> None:
        """Sends changes to these pages."""
        changes = [change.wire() for change in sent]
        named = [pages[start : start + _NAMED] for start in range(0, len(pages), _NAMED)]
        # what is for one page alone can be dropped again
        to = [{"page": some[0]} if len(some) == 1 else {"pages": some} for some in named]
        if to:
            self._core.publish([{"to": recipients, "changes": changes} for recipients in to])

    # receiving

    def take(self, user: str | None, page_id: str, position: int | None = None) -> list[DataChange]:
        """Returns what the page has not received yet, at least up to a position of the log.

        A page that has missed changes is dropped, so that it reloads.
        """
        if position is None and not self._core.working_set().may_have_news(page_id):
            return self._of_user(user, page_id)
        known = {} if position is None else {"position": position}
        try:
            taken = self._core.ask("register.take", page=page_id, **known)
        except Error as error:
            if error.code == "unknown":  # the page has been dropped
                return []
            raise
        if taken.get("reset"):
            self._core.ask("register.drop", level="page", id=page_id, cascade=False)
            self._core.working_set().put(Key("page", page_id), None)
            return []
        return received(taken["entries"]) + self._of_user(user, page_id)

    def reset(self, page_id: str) -> None:
        self._core.ask("register.take", page=page_id)

    def _of_user(self, user: str | None, page_id: str) -> list[DataChange]:
        working_set = self._core.working_set()
        page = working_set.view(Key("page", page_id))
        owner = working_set.view(key_of("user", user))
        if page is None or owner is None or not _news(page, owner):
            return []
        # the page's offsets are written first: of two requests of one page only one gets a change
        found: list[DataChange] = working_set.edit(page.key, lambda draft: _move_offsets(draft, owner)) or []
        if not found:
            return []
        prefixes = list(_subscribed(page))
        first = working_set.edit(owner.key, lambda draft: _mark_first(draft, found, prefixes)) or set()
        for change in found:
            change.value = codec.copied(change.value)
            change.attributes = dict(change.attributes or {})
            change.attributes.pop("_new_datachange", None)
            if change.change_idx in first:
                change.attributes["_new_datachange"] = True
        return found


def changes_of(nodes: Any) -> list[DataChange]:
    """Returns the changes of a Bag of nodes with `_client_path`."""
    return [_of_node(node) for node in nodes]


def _of_node(node: Any) -> DataChange:
    attributes = dict(node.attr)
    path = attributes.pop("_client_path")
    return DataChange(path, node.value, attributes, fired=attributes.pop("fired", None))


def _subscribed(page: Draft) -> dict[str, dict[str, Any]]:
    """Returns what a page subscribes of its user's store: prefix to `{on, offset}`."""
    found = page.read("getItem", ("_subscriptions.user",), {}) or {}
    return {prefix: state for prefix, state in found.items() if state.get("on")}


def _new_of(page: Draft, owner: Draft) -> list[tuple[str, DataChange]]:
    news = []
    last = owner.member("idx") or 0
    subscribed = {prefix: state.get("offset", 0) for prefix, state in _subscribed(page).items()}
    if not any(offset < last for offset in subscribed.values()):
        return []
    for change in queued(owner):
        for prefix, offset in subscribed.items():
            if change.path.startswith(prefix) and (change.change_idx or 0) > offset:
                news.append((prefix, change))
                break
    return news


def _news(page: Draft, owner: Draft) -> bool:
    return bool(_new_of(page, owner))


def _move_offsets(draft: Draft, owner: Draft) -> list[DataChange]:
    news = _new_of(draft, owner)
    if news:
        states = codec.copied(draft.read("getItem", ("_subscriptions.user",), {}))
        for prefix, change in news:
            states[prefix]["offset"] = max(change.change_idx or 0, states[prefix].get("offset", 0))
        draft.apply("setItem", ("_subscriptions.user", states), {})
    return [change for _, change in news]


def _mark_first(draft: Draft, found: list[DataChange], prefixes: list[str]) -> set[int]:
    """Moves the offsets of the user, and returns the numbers of the changes that no page has received before."""
    offsets = dict(draft.read("getItem", ("_subscriptions.offsets",), {}) or {})
    first = set()
    for change in found:
        number = change.change_idx or 0
        for prefix in prefixes:
            if change.path.startswith(prefix) and number > offsets.get(prefix, 0):
                offsets[prefix] = number
                first.add(number)
    if first:
        draft.apply("setItem", ("_subscriptions.offsets", offsets), {})
    return first
