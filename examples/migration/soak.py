"""Uses the store room for some minutes as people do, and checks that nothing grows and no request is lost.

Usage: python3 soak.py --minutes N [--url URL] [--visitors N]

It runs on the machine of the node, which serves a phase with pushes. It ends with 1 if a check fails:
- requests to one page at the same time, over HTTP and its socket, are all in the page afterwards;
- a change that is made while a request runs is pushed to each page, once and with the newest count at the end;
- a page that never polls does not make the processes grow;
- the memory of the node and of its processes after the run is that of the first fifth, within a tenth and 16 MiB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from client import Browser, Socket, Tab

MB = 1 << 20
TOGETHER = 6  # requests to one page at the same time


class Soak:
    """One run, with what it has seen."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        self.end = time.monotonic() + seconds
        self.took: list[float] = []
        self.rounds = 0
        self.pushed = 0
        self.lock = threading.Lock()

    def timed(self, tab: Tab, method: str, **params: object) -> dict:
        """Makes a request of a page and notes how long it took."""
        start = time.perf_counter()
        shown = tab.act(method, **params)
        with self.lock:
            self.took.append((time.perf_counter() - start) * 1000)
        return shown

    def visit(self, browser: Browser, item: int) -> None:
        """One person after the other in one browser, until the time is over. Each has an item of its own."""
        while time.monotonic() < self.end:
            tab = browser.open()
            socket = tab.socket()
            self.together(tab, socket, item)
            self.undone(tab, item)
            tab.poll()
            tab.act("filter", text="")
            socket.close()
            tab.close()
            with self.lock:
                self.rounds += 1

    def together(self, tab: Tab, socket: Socket, item: int) -> None:
        """Makes requests to one page at the same time, and reads what is pushed meanwhile."""
        with ThreadPoolExecutor(TOGETHER) as pool:
            moves = [pool.submit(self.timed, tab, "move", item=item, by=1) for _ in range(TOGETHER)]
            calls = TOGETHER if "resident" in tab.settings else 0
            for _ in range(calls):
                socket.call("act", {"method": "move", "params": {"item": item, "by": 1}})
            for move in moves:
                move.result()
        total = len(moves) + calls
        counts = [self.pushed_count(socket, item) for _ in range(total)]
        shown = tab.act("filter", text="")
        assert shown["undo"] == total, f"{shown['undo']} of {total} moves are in the page"
        count = next(row["count"] for row in shown["rows"] if row["item"] == item)
        assert sorted(counts) == list(range(count - total + 1, count + 1)), (counts, count)

    def undone(self, tab: Tab, item: int) -> None:
        """Takes all moves back."""
        while tab.shown["undo"]:
            self.timed(tab, "undo")

    def pushed_count(self, socket: Socket, item: int) -> int:
        """Returns the count of an item in the next push for it."""
        while True:
            for change in socket.message()["changes"]:
                if change.get("item") == item:
                    with self.lock:
                        self.pushed += 1
                    return change["count"]


def memory(url: str) -> dict[str, int]:
    """Returns the resident bytes of the node and of the processes of the application."""
    with urllib.request.urlopen(f"{url}/api/v1/executors", timeout=10) as answer:
        pools = json.load(answer)["pools"]
    pids = [child["pid"] for pool in pools for child in pool["children"] if child["state"] == "ready"]
    sizes = {f"process {index + 1}": _status(pid)["VmRSS"] for index, pid in enumerate(sorted(pids))}
    return {"node": _status(_node_of(pids[0]))["VmRSS"], **sizes}


def _node_of(pid: int) -> int:
    """Returns the node above a process: the server of the application may be between both."""
    above = []
    while (pid := _status(pid)["PPid"]) > 1:
        above.append(pid)
    return next(pid for pid in reversed(above) if _name(pid) == "pagewire")


def _status(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {"PPid": int(found["PPid"][0]), "VmRSS": int(found["VmRSS"][0]) * 1024}


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def grown(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Returns what has grown by more than a tenth and 16 MiB."""
    limits = {name: size * 1.1 + 16 * MB for name, size in before.items()}
    return [f"{name}: {before[name] // MB} → {size // MB} MiB" for name, size in after.items() if size > limits[name]]


def run(url: str, seconds: float, visitors: int) -> dict:
    """Runs the visitors, and returns what was measured. Raises AssertionError if a check fails."""
    ann = Browser(url, "ann")
    ann.login()
    items = []
    for number in range(visitors):
        name = f"Soak {number}"
        if all(row["name"] != name for row in ann.open().act("filter", text="Soak")["rows"]):
            ann.submit("/admin/store/item/add/", name=name, count=100)
        items.append(next(row["item"] for row in ann.open().shown["rows"] if row["name"] == name))
    idle = ann.open()  # it never polls
    bob = Browser(url, "bob")
    bob.login()
    browsers = [Browser(url, "bob", dict(bob.cookies)) for _ in items]
    soak = Soak(url, seconds)
    with ThreadPoolExecutor(visitors) as pool:
        visits = [pool.submit(soak.visit, browser, item) for browser, item in zip(browsers, items)]
        time.sleep(seconds / 5)
        before = memory(url)
        for visit in visits:
            visit.result()
    after = memory(url)
    idle.close()
    assert not grown(before, after), grown(before, after)
    took = statistics.quantiles(soak.took, n=100)
    return {
        "seconds": seconds,
        "rounds": soak.rounds,
        "requests": len(soak.took),
        "pushes": soak.pushed,
        "median_ms": round(took[49], 2),
        "p99_ms": round(took[98], 2),
        "memory_mib": {name: [before.get(name, 0) // MB, size // MB] for name, size in after.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--visitors", type=int, default=4)
    options = parser.parse_args()
    try:
        print(json.dumps(run(options.url, options.minutes * 60, options.visitors), indent=2))
    except AssertionError as error:
        sys.exit(f"FAILED  {error}")


if __name__ == "__main__":
    main()
