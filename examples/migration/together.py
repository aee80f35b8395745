"""Two users change the same items at the same time, and nothing is lost: neither in the database nor for a page.

Usage: python3 together.py URL [--rounds N]

The application has several processes. It ends with 1 if a check fails:
- the count and the revision of each item have grown by all changes;
- each change is pushed to each page once, and is waiting for its polls once, with the count that it made;
- a change is in the database when a page hears of it;
- two processes have written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from client import Browser, Tab

NAMES = ("Lamp", "Chair")
TAKEN_AND_PUT = (-1, 2)
TABS = 2  # of each user


class Writer:
    """A tab that changes items, hears of all changes, and has a second one that only looks."""

    def __init__(self, browser: Browser) -> None:
        self.tab, self.watching = browser.open(), browser.open()
        self.socket = self.watching.socket()
        self.processes: set[str] = set()

    def write(self, rounds: int) -> None:
        """Takes a piece of each item out, then puts two of each in, and so on."""
        for number in range(rounds):
            for name in NAMES[:: 1 if number % 2 else -1]:
                self.tab.act("move", item=self.tab.row(name)["item"], by=TAKEN_AND_PUT[number % 2])
                self.processes.add(self.tab.timing()[2])

    def pushed(self, changes: int, looks: bool) -> list[dict]:
        """Returns what is pushed to the watching tab, until it has that many changes. It may look at each one."""
        found: list[dict] = []
        while len(found) < changes:
            for change in self.socket.message()["changes"]:
                found.append(change)
                if looks:
                    self._is_stored(change)
        return found

    def _is_stored(self, change: dict) -> None:
        rows = self.watching.act("filter", text="")["rows"]
        row = next(row for row in rows if row["item"] == change["item"])
        assert row["revision"] >= change["revision"], f"{change} is pushed before it is in the database: {row}"

    def close(self) -> None:
        self.socket.close()
        self.watching.close()
        self.tab.close()


def per_item(changes: Iterable[dict], item: int) -> list[tuple[int, int]]:
    """Returns the revisions of an item with its counts, in the order of the revisions."""
    return sorted((change["revision"], change["count"]) for change in changes if change["item"] == item)


def complete(tab: Tab, before: dict[str, dict], heard: list[dict], changes: int) -> None:
    """Asserts that each change of each item was heard once, and that each count follows from the one before."""
    for name, row in before.items():
        revisions = per_item(heard, row["item"])
        expected = list(range(row["revision"] + 1, row["revision"] + changes + 1))
        assert [revision for revision, _ in revisions] == expected, f"{name}: {revisions}"
        counts = [row["count"], *(count for _, count in revisions)]
        assert all(two - one in TAKEN_AND_PUT for one, two in zip(counts, counts[1:])), f"{name}: {counts}"
        now = tab.row(name)
        assert (now["count"], now["revision"]) == (counts[-1], expected[-1]), f"{name}: {now}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=10, help="even number of changes of each item by each tab")
    given = parser.parse_args()
    browsers = [Browser(given.url, user) for user in ("ann", "bob")]
    for browser in browsers:
        browser.login()
    writers = [Writer(browser) for browser in browsers for _ in range(TABS)]
    look = writers[0].tab
    before = {name: look.row(name) for name in NAMES}
    changes = given.rounds * len(writers)
    with ThreadPoolExecutor(2 * len(writers)) as threads:
        # one of them looks, because a look is a request as well
        expected = changes * len(NAMES)
        watched = [threads.submit(writer.pushed, expected, writer is writers[0]) for writer in writers]
        list(threads.map(lambda writer: writer.write(given.rounds), writers))
        heard = [watch.result() for watch in watched]
    look.act("filter", text="")
    for writer, pushes in zip(writers, heard):
        complete(look, before, pushes, changes)
        complete(look, before, writer.tab.poll(), changes)
    processes = set().union(*(writer.processes for writer in writers))
    assert len(processes) > 1, f"one process has served all: {processes}"
    print(json.dumps({"changes": changes * len(NAMES), "pushes": sum(map(len, heard)), "processes": len(processes)}))
    for writer in writers:
        writer.close()


if __name__ == "__main__":
    main()
