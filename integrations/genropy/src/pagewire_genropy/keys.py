"""What names an item of the register.

Owns: levels, keys, the name of a site's register. Never: contents.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

LEVELS = ("global", "user", "connection", "page")
GLOBAL_ID = "*"


class Key(NamedTuple):
    """The level and the id of an item. `*` is the id of the global one, as Genropy writes it."""

    level: str
    id: str

    def wire(self) -> dict[str, Any]:
        """Returns the members of a request that name the item."""
        return {"level": self.level} if self.level == "global" else {"level": self.level, "id": self.id}


GLOBAL = Key("global", GLOBAL_ID)


def key_of(level: str | None, id: Any) -> Key | None:
    """Returns the key of an item, or None if it is the id of nothing.

    Raises ValueError for a level that does not exist.
    """
    if level not in LEVELS:
        raise ValueError(f"{level!r} is no register: they are {', '.join(LEVELS)}")
    if level == "global":
        return GLOBAL
    return Key(level, str(id)) if id else None


def register_name(site: str) -> str:
    """Returns the name of the register of a site or of its domain: 1 to 32 small letters, digits and `-`."""
    plain = re.sub(r"[^a-z0-9-]", "-", site.lower())
    if plain == site and len(site) <= 32:
        return site
    return f"{plain[:23]}-{hashlib.sha256(site.encode()).hexdigest()[:8]}"
