"""Filters of pages, as Genropy writes them: `field:regex AND field:regex`.

Owns: their grammar and their meaning. Never: the pages.
"""

from __future__ import annotations

import re
from typing import Any

from .fields import OWN, stored_name

_LITERAL = re.compile(r"[^.^$*+?{}\[\]\\|()]*")
_REPEATED = ("*", "?", "{")


def conditions(filters: str | None) -> list[tuple[str, str]]:
    """Returns the conditions of a filter. All of them have to hold; without any, all pages match.

    Raises ValueError if a condition has no `:`.
    """
    if not filters or filters == "*":
        return []
    found = []
    for condition in filters.split(" AND "):
        name, colon, pattern = condition.partition(":")
        if not colon:
            raise ValueError(f"the filter {filters!r} has a condition without `:`")
        found.append((name.strip(), pattern))
    return found


def prefixes(wanted: list[tuple[str, str]]) -> dict[str, str]:
    """Returns how the texts of fields of all matching pages begin, so that the register may leave out the others."""
    found: dict[str, str] = {}
    for name, pattern in wanted:
        literal = _LITERAL.match(pattern)
        text = literal[0] if literal else ""
        if pattern[len(text) :].startswith(_REPEATED):
            text = text[:-1]
        if text and "|" not in pattern and name in OWN["page"]:
            found.setdefault(stored_name(name), text)
    return found


def matches(item: dict[str, Any], wanted: list[tuple[str, str]]) -> bool:
    """Returns whether an item fulfils all conditions. A text has to match at its beginning, another value be equal."""
    return all(_holds(item.get(name), pattern) for name, pattern in wanted)


def _holds(value: Any, pattern: str) -> bool:
    if not value:
        return False
    if not isinstance(value, str):
        return bool(pattern == value)
    try:
        return re.match(pattern, value) is not None
    except re.error:
        return False
