"""The register in `daemon.py`."""

from __future__ import annotations

import json
import socket
from typing import Any

from .register import LEVELS, Conflict, Gone, Item, Keys


class DaemonRegister:
    """Calls the daemon over TCP, with a connection for each call, as the application has always done it."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))

    def open(self, keys: Keys) -> None:
        self._call("open", *keys)

    def read(self, keys: Keys) -> dict[str, Item]:
        items = {level: self._call("read", level, keys.of(level)) for level in LEVELS}
        page = items["page"]
        if None in items.values() or (page["connection"], page["user"]) != (keys.connection, keys.user):
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

    def _call(self, verb: str, *arguments: Any) -> Any:
        with socket.create_connection(self._address, timeout=10) as connection, connection.makefile("rwb") as stream:
            stream.write(json.dumps([verb, arguments]).encode() + b"\n")
            stream.flush()
            return json.loads(stream.readline())
