"""The register: who is here with which pages, their data, and the changes that wait for a page.

The views know `Register` alone. `STORE_REGISTER` chooses what is behind it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from django.conf import settings

LEVELS = ("global", "user", "connection", "page")


class Gone(Exception):
    """The page is not in the register (any more), or it is the page of another user."""


class Conflict(Exception):
    """Another request has changed the item first."""


class Keys(NamedTuple):
    """The ids of a page, its connection (a browser), and its user. The global item has the id ""."""

    page: str
    connection: str
    user: str

    def of(self, level: str) -> str:
        return getattr(self, level, "")


@dataclass
class Item:
    """What is kept of one page, connection or user, or of all (global)."""

    data: dict[str, Any] = field(default_factory=dict)
    revision: int = 0


class Register(Protocol):
    """What the application asks of a register."""

    def open(self, keys: Keys) -> None:
        """Adds a page, and its connection and user if they are new."""

    def read(self, keys: Keys) -> dict[str, Item]:
        """Returns the items of a page by level. Raises Gone."""

    def write(self, level: str, keys: Keys, item: Item) -> int:
        """Writes the data of an item that is at its revision, and returns the next one. Raises Conflict."""

    def close(self, keys: Keys) -> None:
        """Removes a page, its connection with the last page, and its user with the last connection."""

    def publish(self, changes: list[dict]) -> None:
        """Adds changes to what waits for each page."""

    def take(self, keys: Keys) -> list[dict] | None:
        """Returns what waits for a page, each change once; None: it has to reload. Raises Gone."""

    def pages(self) -> dict[str, str]:
        """Returns the user of each page."""


@functools.cache
def register() -> Register:
    """Returns the register that the configuration chooses."""
    from .register_daemon import DaemonRegister

    daemon = DaemonRegister(settings.STORE_DAEMON)
    if settings.STORE_REGISTER == "daemon":
        return daemon
    from .register_pagewire import PagewireRegister  # which needs the package pagewire

    pagewire = PagewireRegister()
    if settings.STORE_REGISTER == "pagewire":
        return pagewire
    from .register_shadow import ShadowRegister

    return ShadowRegister(daemon, pagewire)
