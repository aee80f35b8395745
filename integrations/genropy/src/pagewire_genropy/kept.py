"""What a process of a site keeps between requests, and when it keeps nothing.

Owns: the setting, the number, the idle time, and the memory of the process. Never: what is kept, and whether it is
current (`kept_classes`, `kept_templates`, `kept_preferences`, `kept_relations`).
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Hashable, NamedTuple

VARIABLE = "GENROPY_KEEP"
"""The variable of the environment that switches it on."""

_MEASURED_EVERY = 1.0
"""Seconds between two looks at the memory of the process."""


class Limits(NamedTuple):
    """`entries`: how many values are kept. `idle_s`: seconds without use after which one is dropped. `memory_mb`: the
    memory of the process above which nothing is kept.
    """

    entries: int = 1000
    idle_s: int = 1800
    memory_mb: int = 1024


def limits_of(text: str) -> Limits | None:
    """Returns the limits of a setting: `on`, or some of them as `entries=1000 idle_s=1800 memory_mb=1024`. Returns None
    if nothing is kept.

    Raises ValueError for a setting that means nothing.
    """
    if text in ("", "off"):
        return None
    given: dict[str, int] = {}
    for part in () if text == "on" else text.split():
        name, _, number = part.partition("=")
        if name not in Limits._fields or not number.isdecimal() or int(number) == 0:
            raise ValueError(
                f"{VARIABLE}={text!r}: expected on, off, or entries=N idle_s=N memory_mb=N with N from 1 on"
            )
        given[name] = int(number)
    return Limits(**given)


def process_memory() -> int:
    """Returns the resident memory of this process in MiB; 0 where the system does not tell it."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


class Kept:
    """Values by key; those that were used last are kept."""

    def __init__(self, limits: Limits, memory: Callable[[], int] = process_memory) -> None:
        self._limits = limits
        self._memory = memory
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        self._measured = 0.0
        self._is_full = False

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Any:
        """Returns a value, or None."""
        with self._lock:
            now = self._limit()
            found = self._values.pop(key, None)
            if found is None:
                return None
            self._values[key] = (found[0], now)
            return found[0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keeps a value, unless the process has too much memory."""
        with self._lock:
            now = self._limit()
            if self._is_full:
                return
            self._values.pop(key, None)
            self._values[key] = (value, now)
            while len(self._values) > self._limits.entries:
                self._values.popitem(last=False)

    def drop(self, key: Hashable) -> None:
        with self._lock:
            self._values.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()

    def is_full(self) -> bool:
        """Returns whether nothing is kept because of the memory of the process."""
        with self._lock:
            self._limit()
            return self._is_full

    def _limit(self) -> float:
        """Drops what is idle, and everything if the process has too much memory. Returns the time."""
        now = time.monotonic()
        while self._values and now - next(iter(self._values.values()))[1] > self._limits.idle_s:
            self._values.popitem(last=False)
        if now - self._measured >= _MEASURED_EVERY:
            self._measured = now
            self._is_full = self._memory() > self._limits.memory_mb
            if self._is_full:
                self._values.clear()
        return now
