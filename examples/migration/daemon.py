"""The state daemon of the store room: keeps users, connections and pages with their data, and the changes for pages.

Usage: python3 daemon.py [HOST:PORT]. One call is one TCP connection with one line of JSON, [verb, arguments], and one
line as the answer. All is in memory: after a restart every page has to be opened again.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
import time
from typing import Any

LEVELS = ("global", "user", "connection", "page")
PAGE_S = 60  # a page that has asked nothing for so long is closed
QUEUE = 200  # changes that wait for a page; beyond that it is told to reload


class State:
    """All items by level and id, and the queues of the pages."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, dict]] = {level: {} for level in LEVELS}
        self.queues: dict[str, list | None] = {}  # None: too much has waited
        self.seen: dict[str, float] = {}

    def open(self, page: str, connection: str, user: str) -> None:
        """Adds a page, and its connection and user if they are new."""
        self.sweep()
        for level, item in (("global", ""), ("user", user), ("connection", connection), ("page", page)):
            self.items[level].setdefault(item, {"data": {}, "revision": 1})
        self.items["connection"][connection]["user"] = user
        self.items["page"][page].update(connection=connection, user=user)
        self.queues[page], self.seen[page] = [], time.monotonic()

    def read(self, level: str, item: str) -> dict | None:
        """Returns an item, or None."""
        if level == "page" and item in self.seen:
            self.seen[item] = time.monotonic()
        return self.items[level].get(item)

    def write(self, level: str, item: str, data: dict, if_revision: int) -> int | None:
        """Replaces the data of an item, if it is at the revision. Returns the new revision, or None."""
        found = self.items[level].get(item)
        if found is None or found["revision"] != if_revision:
            return None
        found.update(data=data, revision=if_revision + 1)
        return if_revision + 1

    def close(self, page: str) -> None:
        """Removes a page, its connection if it was the last page, and its user if it was the last connection."""
        found = self.items["page"].pop(page, None)
        self.queues.pop(page, None)
        self.seen.pop(page, None)
        for level, below in (("connection", "page"), ("user", "connection")):
            if found and all(item[level] != found[level] for item in self.items[below].values()):
                self.items[level].pop(found[level], None)

    def publish(self, changes: list) -> int:
        """Adds changes to the queue of each page."""
        for page, queue in self.queues.items():
            if queue is not None:
                self.queues[page] = queue + changes if len(queue) + len(changes) <= QUEUE else None
        return len(self.queues)

    def take(self, page: str) -> dict | None:
        """Returns the changes that wait for a page, each once."""
        if page not in self.queues:
            return None
        self.seen[page] = time.monotonic()
        queue, self.queues[page] = self.queues[page], []
        return {"changes": queue or [], "reset": queue is None}

    def pages(self) -> dict[str, str]:
        """Returns the user of each page."""
        return {page: item["user"] for page, item in self.items["page"].items()}

    def sweep(self) -> None:
        """Closes the pages that were not used."""
        late = time.monotonic() - PAGE_S
        for page in [page for page, seen in self.seen.items() if seen < late]:
            self.close(page)


class Call(socketserver.StreamRequestHandler):
    """One call, while no other one changes the state."""

    def handle(self) -> None:
        verb, arguments = json.loads(self.rfile.readline())
        with self.server.lock:  # type: ignore[attr-defined]
            value: Any = getattr(self.server.state, verb)(*arguments)  # type: ignore[attr-defined]
            self.wfile.write(json.dumps(value).encode() + b"\n")


class Daemon(socketserver.ThreadingTCPServer):
    """The server of the state."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Call)
        self.state, self.lock = State(), threading.Lock()


def main() -> None:
    host, _, port = (sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8700").rpartition(":")
    with Daemon((host, int(port))) as daemon:
        print(f"the daemon listens on {host}:{port}", flush=True)
        try:
            daemon.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
