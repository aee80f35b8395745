"""The register: who is here with which pages, their data, and the changes that wait for a page.

The views know `Register` alone. `STORE_REGISTER` chooses what is behind it.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from django.conf import settings


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


LEVELS = ("global", "user", "connection", "page")


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


class DaemonRegister:
    """The register in `daemon.py`: a TCP connection for each call, as the application has always done it."""

    def open(self, keys: Keys) -> None:
        self._call("open", *keys)

    def read(self, keys: Keys) -> dict[str, Item]:
        items = {level: self._call("read", level, keys.of(level)) for level in LEVELS}
        if None in items.values() or items["page"]["user"] != keys.user:
            raise Gone(keys.page)
        return {level: Item(item["data"], item["revision"]) for level, item in items.items()}

    def write(self, level: str, keys: Keys, item: Item) -> int:
        revision = self._call("write", level, keys.of(level), item.data, item.revision)
        if revision is None:
            raise Conflict(level)
        return revision

    def close(self, keys: Keys) -> None:
        self._call("close", keys.page)

    def publish(self, changes: list[dict]) -> None:
        self._call("publish", changes)

    def take(self, keys: Keys) -> list[dict] | None:
        taken = self._call("take", keys.page)
        if taken is None:
            raise Gone(keys.page)
        return None if taken["reset"] else taken["changes"]

    def pages(self) -> dict[str, str]:
        return self._call("pages")

    @staticmethod
    def _call(verb: str, *arguments: Any) -> Any:
        host, _, port = settings.STORE_DAEMON.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=10) as connection,
            connection.makefile("rwb") as stream,
        ):
            stream.write(json.dumps([verb, arguments]).encode() + b"\n")
            stream.flush()
            return json.loads(stream.readline())


def register() -> Register:
    """Returns the register that the configuration chooses."""
    return DaemonRegister()
