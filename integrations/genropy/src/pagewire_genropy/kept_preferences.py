"""Preferences that are empty, which Genropy reads from the database at each use: its cache holds only filled ones.

Owns: that a request reads them once. Never: filled ones, and what another request has read: Genropy does not mark the
first change of empty preferences anywhere, so that no other request may believe what was read before.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

from gnr.core.gnrbag import Bag

EMPTY_FOR = 0.25
"""Seconds for which a request believes that preferences are empty, as it believes what it has read of the register."""


class EmptyPreferences(Bag):  # type: ignore[misc]
    """Preferences that were read and are empty. It is true, so that they are not read again."""

    def __bool__(self) -> bool:
        return True

    def deepcopy(self, *_: Any, **__: Any) -> Any:
        return Bag()


def is_preference(key: str) -> bool:
    """Returns whether a key of the cache names preferences of the application or of a user."""
    return key.startswith("_mainpref_") or key.endswith("_preference")


class Preferences:
    """What the request of each thread has found empty. The methods stand in for those of `WebApplicationCache`."""

    def __init__(self) -> None:
        self._thread = threading.local()

    def get(self, original: Callable[..., Any], cache: Any, key: str, default: Any) -> Any:
        found = original(cache, key, default)
        if found or not is_preference(key):
            return found
        at = self._empty(cache.site.currentRequest).get(key)
        return found if at is None or time.monotonic() - at > EMPTY_FOR else EmptyPreferences()

    def set(self, original: Callable[..., Any], cache: Any, key: str, value: Any) -> None:
        original(cache, key, value)
        if is_preference(key) and (value is None or (isinstance(value, Bag) and not value)):
            self._empty(cache.site.currentRequest)[key] = time.monotonic()

    def forget(self) -> None:
        """Reads again what this thread has found empty, because it changes a record."""
        self._thread.held = None

    def _empty(self, request: Any) -> dict[str, float]:
        """Returns when the request of this thread has found preferences empty, by their keys."""
        held: tuple[Any, dict[str, float]] | None = getattr(self._thread, "held", None)
        if request is None:
            return {}
        if held is None or held[0] is not request:
            held = self._thread.held = (request, {})
        return held[1]
