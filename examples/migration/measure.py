"""Measures how long a request of the store room takes, and which part of it builds the page.

Usage: python3 measure.py URL [REQUESTS]
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from client import Browser


def measured(url: str, requests: int) -> dict:
    """Returns medians in milliseconds of so many requests of one page, after some that warm up."""
    browser = Browser(url, "bob")
    browser.login()
    tab = browser.open()
    if "resident" in tab.settings:
        tab.socket()  # its object is where the page is then
    built, whole, origins = [], [], set()
    for number in range(requests + 20):
        start = time.perf_counter()
        tab.act("filter", text="")
        if number >= 20:
            whole.append((time.perf_counter() - start) * 1000)
            origin, spent, _ = tab.timing()
            built.append(spent)
            origins.add(origin)
    tab.close()
    page, request = (round(statistics.median(times), 3) for times in (built, whole))
    return {"page": sorted(origins), "build_ms": page, "request_ms": request}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200)))
