"""The scripted visitors of the store room: what ann and bob do in every phase.

Usage: python3 drive.py URL [URL] [--restock COMMAND] [--jar FILE [--stay] [--tab]]

With two addresses bob is at the second one.

--restock COMMAND  runs a program beside the site, manage.py restock, and checks what the pages are told
--jar FILE         keeps the cookies of both and a tab of bob, so that the next run begins with them
--stay             fails if one of them has to log in again
--tab              fails if the tab that the run before has left open is gone
It prints one line for each step, and ends with 1 at the first one that fails.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from client import Browser, Refused, Tab


def refused(status: int, action) -> None:
    """Asserts that an action is answered with a status."""
    try:
        action()
    except Refused as answer:
        assert answer.status == status, answer
    else:
        raise AssertionError(f"not refused with {status}")


def waits_for(tab: Tab, name: str, count: int) -> None:
    """Polls until the row of an item has come, once."""
    end, seen = time.monotonic() + 10, []
    while not seen and time.monotonic() < end:
        seen = [change for change in tab.poll() if change.get("name") == name]
    assert [change["count"] for change in seen] == [count], seen
    assert not tab.poll(), "a change is taken once"


class Visit:
    """One run: the steps in their order, each a method whose documentation is its line."""

    def __init__(self, jar: dict[str, dict[str, str]], options: argparse.Namespace) -> None:
        self.ann = Browser(options.url[0], "ann", jar.setdefault("ann", {}))
        self.bob = Browser(options.url[-1], "bob", jar.setdefault("bob", {}))
        self.stay = options.stay
        self.program = options.restock
        self.kept = jar.setdefault("tab", {})
        if not options.tab:
            self.kept.clear()

    def steps(self) -> Iterator[Callable[[], None]]:
        yield self.log_in
        if "page" in self.kept:
            yield self.tab_before
        yield self.open_pages
        if self.two.settings["topic"]:
            yield self.push
        if self.one.settings.get("resident"):
            yield self.resident
        yield from (self.move, self.undo, self.filter, self.notice, self.admin)
        if self.program:
            yield self.restock
        yield self.close

    def log_in(self) -> None:
        """ann and bob are logged in"""
        for browser in (self.ann, self.bob):
            if not browser.is_logged_in():
                assert not self.stay, f"{browser.user} has to log in again"
                browser.login()

    def tab_before(self) -> None:
        """the tab that bob has left open goes on"""
        self.bob.get(f"/page/{self.kept['page']}/poll")

    def open_pages(self) -> None:
        """both have a page, whose id is known to nobody else"""
        self.one, self.two = self.ann.open(), self.bob.open()
        assert all(re.fullmatch("[0-9a-f]{22}", tab.page) for tab in (self.one, self.two)), self.one.page
        here = json.loads(self.bob.get("/here"))
        assert here["ann"] >= 1 and here["bob"] >= 1, here
        foreign = self.one.page
        refused(410, lambda: self.bob.get(f"/page/{foreign}/poll"))

    def push(self) -> None:
        """a change is pushed to a page with a socket, and without it the page polls as before"""
        socket = self.two.socket()
        assert socket.registered["user"] == "bob", socket.registered
        lamp = self.one.row("Lamp")
        self.one.act("move", item=lamp["item"], by=1)
        assert socket.message() == {"changes": [self.one.row("Lamp")]}
        waits_for(self.two, "Lamp", lamp["count"] + 1)
        socket.close()
        self.one.act("undo")
        waits_for(self.two, "Lamp", lamp["count"])
        self.one.poll()

    def resident(self) -> None:
        """a request and the socket of its page meet one object, which is built once"""
        socket = self.one.socket()
        self.one.act("move", item=self.one.row("Lamp")["item"], by=1)
        assert self.one.timing()[0] == "resident", self.one.timing()
        assert socket.call("act", {"method": "undo", "params": {}})["undo"] == 0
        assert self.one.act("filter", text="")["undo"] == 0
        assert self.one.timing()[0] == "resident", self.one.timing()
        socket.close()
        self.one.poll()
        self.two.poll()

    def move(self) -> None:
        """bob sees what ann takes, and nobody takes more than there is"""
        lamp = self.one.row("Lamp")
        shown = self.one.act("move", item=lamp["item"], by=-1)
        assert shown["undo"] == 1, shown
        waits_for(self.two, "Lamp", lamp["count"] - 1)
        refused(409, lambda: self.one.act("move", item=lamp["item"], by=-1000))

    def undo(self) -> None:
        """a page takes back its own last move"""
        before = self.one.row("Lamp")["count"]
        assert self.one.act("undo")["undo"] == 0
        assert self.one.row("Lamp")["count"] == before + 1
        waits_for(self.two, "Lamp", before + 1)
        self.one.poll()

    def filter(self) -> None:
        """a filter is of one page, and of the next page of its browser"""
        assert [row["name"] for row in self.two.act("filter", text="chai")["rows"]] == ["Chair"]
        assert len(self.one.act("filter", text="")["rows"]) > 1
        again = self.bob.open()
        assert again.shown["filter"] == "chai"
        again.act("filter", text="")
        again.close()

    def notice(self) -> None:
        """a notice of one is on the pages of all"""
        self.one.act("notice", text="Inventory at noon")
        self.two.poll()
        assert self.two.shown["notice"]["text"] == "Inventory at noon", self.two.shown
        assert self.bob.open().shown["notice"] == self.two.shown["notice"]

    def admin(self) -> None:
        """a change in the admin reaches the pages"""
        chair = self.one.row("Chair")
        self.ann.submit(f"/admin/store/item/{chair['item']}/change/", name="Chair", count=chair["count"] + 1)
        waits_for(self.two, "Chair", chair["count"] + 1)

    def restock(self) -> None:
        """a program beside the site fills up, and the pages are told"""
        lamp = self.one.row("Lamp")
        self.one.act("move", item=lamp["item"], by=1 - lamp["count"])
        self.two.poll()
        socket = self.two.socket() if self.two.settings["topic"] else None
        subprocess.run(shlex.split(self.program), check=True)
        waits_for(self.two, "Lamp", 5)
        if socket:
            assert [row["count"] for row in socket.message()["changes"]] == [5]
            socket.close()
        self.one.act("undo")

    def close(self) -> None:
        """a closed page is gone"""
        before = json.loads(self.bob.get("/here"))
        self.one.close()
        self.two.close()
        after = json.loads(self.bob.get("/here"))
        assert after.get("ann", 0) == before["ann"] - 1 and after.get("bob", 0) == before["bob"] - 1, after
        refused(410, self.one.poll)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="+")
    parser.add_argument("--restock")
    parser.add_argument("--jar", type=Path)
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("--tab", action="store_true")
    options = parser.parse_args()
    kept = options.jar is not None and options.jar.exists()
    jar = json.loads(options.jar.read_text()) if kept else {}
    visit = Visit(jar, options)
    for step in visit.steps():
        try:
            step()
        except (AssertionError, Refused) as error:
            print(f"FAILED  {step.__doc__}: {error}")
            sys.exit(1)
        print(f"ok      {step.__doc__}", flush=True)
    if options.jar:
        jar["tab"]["page"] = visit.bob.open().page
        options.jar.write_text(json.dumps(jar))


if __name__ == "__main__":
    main()
