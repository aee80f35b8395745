"""What one of two registers has given a page, and the other one not yet.

Owns: which changes wait for their twin, and which have waited too long. Never: taking changes (`shadow_pair`). Pure.

A change is published in one register after the other, and a poll may be between. So the twin may come with a later
poll, to any process of the site.
"""

from __future__ import annotations

import hashlib
from typing import Any, Iterable

from .shadow_forms import short

LATE = 5.0
"""Seconds after which a change without its twin is a difference."""

Entry = tuple[bool, str, str, float]
"""Whether the first register has given the change, its digest, its beginning as text, and when it was taken."""


def settle(
    waiting: Iterable[Entry], first: Iterable[Any], second: Iterable[Any], now: float
) -> tuple[list[Entry], list[Entry]]:
    """Returns the changes that wait for their twin after two answers, and those that have waited too long."""
    ahead = list(waiting)
    for is_first, changes in ((True, first), (False, second)):
        for change in changes:
            digest = hashlib.sha256(repr(change).encode()).hexdigest()
            twin = next((entry for entry in ahead if entry[0] != is_first and entry[1] == digest), None)
            if twin is None:
                ahead.append((is_first, digest, short(change), now))
            else:
                ahead.remove(twin)
    late = [entry for entry in ahead if now - entry[3] > LATE]
    return [entry for entry in ahead if entry not in late], late
