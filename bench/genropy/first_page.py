"""Times the first page of a site: from the start of the navigation until the framework has built the page.

The list of customers, logged in; the cache of the browser is emptied before each run, and full for the last row. The
stacks take turns.
"""

import os
import statistics

from browser import CUSTOMERS, Browser
from stacks import until

# the framework sets `_pageStarted` when it has built the page and before it lets the user in
PROBE = """
(function look() {
    if (window.genro && genro._pageStarted) { window.readyAt = performance.now(); } else { setTimeout(look, 2); }
})()
"""


def load(browser, is_empty):
    browser.driver.get("about:blank")
    if is_empty:
        browser.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.driver.get(browser.url + CUSTOMERS)
    return until("the page", lambda: browser.run("return window.readyAt"))


def line(name, values, unit):
    low, high = min(values), max(values)
    print(f"{name:32} {statistics.median(values):8.2f} {unit}  {low:.2f} – {high:.2f}")


def measure(urls, runs):
    with Browser(urls[0], False) as plain, Browser(urls[1], False) as node:
        for browser in (plain, node):
            browser.login("amelia.martin")
            browser.driver.execute_cdp_cmd("Network.enable", {})
            browser.driver.execute_cdp_cmd("Page.enable", {})
            browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": PROBE})
            load(browser, True)
        # each run is a pair
        empty = [(load(plain, True), load(node, True)) for _ in range(runs)]
        full = [(load(plain, False), load(node, False)) for _ in range(runs)]
        requests = node.run("return performance.getEntriesByType('resource').length + 1")
    print(f"{requests} requests, {runs} runs, load {os.getloadavg()[0]:.1f}")
    for name, pairs in (("empty cache", empty), ("full cache", full)):
        line(f"{name}, plain stack", [plain / 1e3 for plain, _ in pairs], "s")
        line(f"{name}, Pagewire", [node / 1e3 for _, node in pairs], "s")
        line(f"{name}, Pagewire : plain", [node / plain for plain, node in pairs], "")
