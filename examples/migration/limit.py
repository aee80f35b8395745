"""Finds what one process of the store room serves: requests in a second, open pages, and their memory.

Usage: python3 limit.py URL [--tabs N] [--seconds N]

It runs on the machine of the node. All tabs stay open, with their sockets where the phase has pushes, while more and
more of them send one request after the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from client import Browser, Socket, Tab
from soak import memory

AT_ONCE = (1, 2, 4, 8, 16)


def opened(browser: Browser, count: int) -> list[tuple[Tab, Socket | None]]:
    """Opens pages, each with its socket if it has one."""
    tabs = [browser.open() for _ in range(count)]
    return [(tab, tab.socket() if tab.settings["topic"] else None) for tab in tabs]


def request(tab: Tab) -> float:
    """Sends a request of a page. Returns the milliseconds that it took."""
    start = time.perf_counter()
    tab.act("filter", text="")
    return (time.perf_counter() - start) * 1000


def load(tabs: list[Tab], seconds: float) -> dict[str, float]:
    """Lets each of these pages send one request after the other."""
    end = time.monotonic() + seconds

    def busy(tab: Tab) -> list[float]:
        took = []
        while time.monotonic() < end:
            took.append(request(tab))
        return took

    start = time.monotonic()
    with ThreadPoolExecutor(len(tabs)) as pool:
        took = [one for tab in pool.map(busy, tabs) for one in tab]
    quantiles = statistics.quantiles(took, n=100)
    return {
        "at_once": len(tabs),
        "requests_per_s": round(len(took) / (time.monotonic() - start)),
        "median_ms": round(quantiles[49], 1),
        "p99_ms": round(quantiles[98], 1),
    }


def measured(url: str, count: int, seconds: float) -> dict:
    """Returns the figures of the process at a URL."""
    browser = Browser(url, "bob")
    browser.login()
    request(browser.open())  # what is loaded once is loaded
    before = memory(url)
    tabs = opened(browser, count)
    for tab, _ in tabs:
        request(tab)
    after = memory(url)
    loads = [load([tab for tab, _ in tabs[:at_once]], seconds) for at_once in AT_ONCE]
    for tab, socket in tabs:
        tab.close()
        if socket:
            socket.close()
    kib = {name: round((size - before.get(name, 0)) / 1024 / count, 1) for name, size in after.items()}
    return {"tabs": count, "kib_of_a_tab": kib, "loads": loads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--tabs", type=int, default=40, help="at most `limits.pages_per_user`")
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    print(json.dumps(measured(options.url, options.tabs, options.seconds), indent=2))


if __name__ == "__main__":
    main()
