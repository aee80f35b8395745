"""The items that this process has read last, with their revisions.

Owns: how many are kept. Never: whether one is current, which is asked with its revision.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from .keys import Key
from .snapshot import Snapshot

_BYTES = 64 << 20
_ITEM = 2048
"""Bytes that are counted for an item beside its data."""


class Replicas:
    """Snapshots by key; the ones that were used last are kept, up to 64 MiB of data."""

    def __init__(self, limit: int = _BYTES) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[Snapshot, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key) -> Snapshot | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def put(self, snapshot: Snapshot) -> None:
        """Keeps a snapshot, unless a later one is here."""
        size = snapshot.size + _ITEM
        with self._lock:
            found = self._kept.get(snapshot.key)
            if found is not None and found[0].revision > snapshot.revision:
                return
            self._remove(snapshot.key)
            self._kept[snapshot.key] = (snapshot, size)
            self._bytes += size
            while self._bytes > self._limit and len(self._kept) > 1:
                self._remove(next(iter(self._kept)))

    def drop(self, key: Key) -> None:
        with self._lock:
            self._remove(key)

    def _remove(self, key: Key) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._bytes -= found[1]
