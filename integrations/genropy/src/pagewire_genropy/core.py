"""The register of one site in this process: requests, replicas, locks and the working set of each request.

Owns: the requests `register.read`, `register.write` and `register.publish`. Never: verbs of Genropy (`register`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple

from pagewire.errors import Error, error_of

from . import changes
from .hints import is_poll, keys_of
from .keys import GLOBAL, Key
from .locks import Locks
from .replicas import Replicas
from .snapshot import Snapshot
from .working_set import WorkingSet

if TYPE_CHECKING:
    from .channel import Channel
    from .draft import Draft


class Found(NamedTuple):
    """What one request has read: items, the pages of a connection, and those of the named pages that had no news."""

    snapshots: list[Snapshot | None]
    pages: list[str]
    quiet: list[str]


class Core:
    """What the verbs of one register share. `site` tells which request a thread serves (`currentRequest`)."""

    def __init__(self, channel: Channel, register: str, site: Any) -> None:
        self.channel = channel
        self.register = register
        self.replicas = Replicas()
        self.locks = Locks(channel, register)
        self._has_read = False
        self._site = site
        self._threads = threading.local()

    def forked(self) -> None:
        """Forgets what belongs to the parent of this process."""
        self.replicas = Replicas()
        self.locks = Locks(self.channel, self.register)
        self._threads = threading.local()

    # the request of this thread

    def working_set(self) -> WorkingSet:
        """Returns the working set of the request that this thread serves, which has read what most requests use."""
        request = getattr(self._site, "currentRequest", None)
        if request is None:
            return WorkingSet(self)
        threads: Any = self._threads
        held = getattr(threads, "held", None)
        if held is not None and held[0] is request:
            return held[1]  # type: ignore[no-any-return]
        working_set = WorkingSet(self, request)
        threads.held = (request, working_set)
        page, connection = keys_of(request)
        polling = [page.id] if page is not None and is_poll(request) else []
        working_set.load(self._expected(page, connection), polling)
        return working_set

    def _expected(self, page: Key | None, connection: Key | None) -> list[Key]:
        """Returns the items that a request is going to use, as far as it is known before it has read any."""
        known = self.replicas.get(page) if page is not None else None
        if known is not None and "connection" in known.fields:
            connection = Key("connection", known.fields["connection"])
        known = self.replicas.get(connection) if connection is not None else None
        user = Key("user", known.fields["user"]) if known is not None and "user" in known.fields else None
        return [key for key in (GLOBAL, connection, user, page) if key is not None]

    def has_sockets(self) -> bool:
        """Returns whether pages of the site may have sockets."""
        return bool(getattr(self._site, "websockets", False))

    # requests

    def ask(self, method: str, **params: Any) -> Any:
        """Sends a request of this register and returns its value."""
        return self.channel.ask(method, {"register": self.register, **params})

    def read(self, keys: list[Key], pages_of: str | None = None, news_of: Iterable[str] = ()) -> Found:
        """Reads items, the ids of the pages of a connection, and which pages have no news.

        An item that has not changed since this process read it is not transferred.
        """
        asked = list(news_of)
        known = {key: self.replicas.get(key) for key in keys}
        items = []
        for key in keys:
            kept = known[key]
            items.append(
                {**key.wire(), "revision": kept.revision} if kept is not None and kept.revision else key.wire()
            )
        params: dict[str, Any] = {"items": items, **({"pages_of": [pages_of]} if pages_of else {})}
        if asked:
            params["news_of"] = asked
        try:
            found = self.ask("register.read", **params)
        except Error as error:
            if self._is_importing(error) and keys == [GLOBAL]:
                return Found([Snapshot(GLOBAL, 0, {}, {})], [], [])
            raise
        self._has_read = True
        snapshots = [self._received(key, item, known[key]) for key, item in zip(keys, found["items"])]
        # a server that does not know the question answers without `news`
        news = found.get("news", asked)
        return Found(snapshots, found.get("pages", {}).get(pages_of, []), [page for page in asked if page not in news])

    def _is_importing(self, error: Error) -> bool:
        """Returns whether the application is being imported: a process joins Pagewire after that.

        Genropy looks for time stamps of its caches in the global store then. What it has just cached is compared with
        them again at each use, so that an empty store is a correct answer.
        """
        return error.code == "unavailable" and not self._has_read

    def _received(self, key: Key, item: dict[str, Any] | None, kept: Snapshot | None) -> Snapshot | None:
        if item is None:
            self.replicas.drop(key)
            # the global item exists always; it is written when something is put into it
            return Snapshot(key, 0, {}, {}) if key.level == "global" else None
        if item.get("same") and kept is not None:
            return kept
        snapshot = Snapshot(key, item["revision"], item.get("fields") or {}, item.get("data") or {})
        snapshot.keep_read(kept)
        self.replicas.put(snapshot)
        return snapshot

    def write(self, ops: list[dict[str, Any]]) -> list[int]:
        """Writes, and returns the revisions.

        Raises the error of the first operation that failed; those before it stand.
        """
        revisions = []
        for result in self.ask("register.write", ops=ops)["results"]:
            if "error" in result:
                raise error_of(result["error"])
            revisions.append(result.get("revision", 0))
        return revisions

    def publish(self, entries: list[dict[str, Any]]) -> Any:
        held = getattr(self._threads, "held", None)
        if held is not None:
            held[1].expect_news()  # the pages of this request may be among the recipients
        return self.ask("register.publish", entries=entries)

    # what follows from a change

    def announce(self, draft: Draft) -> None:
        """Sends changes of subscribed paths to their page."""
        if draft.key.level == "page":
            sent = [changes.server_change(*notice) for notice in draft.notices]
            self.publish([{"to": {"page": draft.key.id}, "changes": sent}])

    def note_caching(self, working_set: WorkingSet, tables: Iterable[str]) -> None:
        """Makes it known that values of these tables are cached in some item."""
        wanted = set(tables)
        known = working_set.get(GLOBAL)
        if known is not None and wanted <= set(known.member("caching") or ()):
            return
        working_set.edit(GLOBAL, lambda draft: draft.set_member("caching", wanted | set(draft.member("caching") or ())))
