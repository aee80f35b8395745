"""What a shadow tells the operator: each difference, and from time to time how much was compared.

Owns: the counts of this process, and the lines of the log. Never: a comparison.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter

_log = logging.getLogger("gnr.web.shadow")
# a logger of Genropy shows warnings only, if the site does not set another level
_log.setLevel(logging.INFO)

_EVERY = 10.0
"""Seconds between two lines with the counts, while they grow."""

_LINES = 100
"""Lines about differences, and about errors, in a minute. Further ones are only counted."""


class Report:
    """The counts of one process. `counts` has those of `compared`, `differences`, `errors` and `adopted`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.verbs: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._told = time.monotonic()
        self._lines: dict[str, tuple[int, int]] = {}

    def compared(self, verb: str) -> None:
        """Counts an answer that was compared."""
        with self._lock:
            self.counts["compared"] += 1
            self.verbs[verb] += 1
            now = time.monotonic()
            if now - self._told < _EVERY:
                return
            self._told = now
            text = ", ".join(f"{name} {self.counts[name]}" for name in ("compared", "differences", "errors", "adopted"))
        _log.info("the shadow of the register, process %d: %s", os.getpid(), text)

    def differs(self, verb: str, what: str, one: str, two: str) -> None:
        """Reports an answer that is another one."""
        if self._count("differences"):
            _log.warning("a register differs: %s %s: %s and %s", verb, what, one, two)

    def failed(self, verb: str, what: str, error: Exception) -> None:
        """Reports an error of the second register, which nobody else sees."""
        if self._count("errors"):
            _log.warning("the second register fails: %s %s: %s: %s", verb, what, type(error).__name__, error)

    def adopted(self) -> None:
        """Counts an item that the second register has taken over from the first one."""
        self._count("adopted")

    def _count(self, name: str) -> bool:
        """Counts, and returns whether there may be a line about it."""
        minute = int(time.monotonic() // 60)
        with self._lock:
            self.counts[name] += 1
            at, lines = self._lines.get(name, (minute, 0))
            lines = lines + 1 if at == minute else 1
            self._lines[name] = (minute, lines)
        return lines <= _LINES
