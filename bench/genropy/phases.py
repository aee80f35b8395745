"""A site that keeps things between requests (phase 5) beside one that does not (phase 4), both with the register.

Owns: what shows that both do the same and see the same changes, and their times and memory. Never: requests (`client`).
"""

import contextlib
import re
import sqlite3
import statistics
import subprocess
import time

from client import CUSTOMERS, Client
from installation import instance, package
from register import USERS, expect, times, walk
from stacks import start_node, until

# what differs between two answers of one site: keys, times, counters
CHANGING = re.compile(r"[A-Za-z0-9_]{22}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*|\b\d+\.\d+\b|mtime=\d+|_\d{5,}")


def shell(url, path):
    """Returns a page without what differs between two requests."""
    client = Client(url)
    client.log_in(USERS[0])
    return CHANGING.sub("", client.send("GET", path).text)


def same_pages(old, new):
    for path in ("/", CUSTOMERS):
        expected = shell(old, path)
        for _ in range(3):
            expect(shell(new, path) == expected, f"{path} is another page")
    print("  the pages are the same")


def preferences(url):
    """Preferences of the application and of a user, which are empty before, are seen by the next requests."""
    client = Client(url)
    page = client.log_in(USERS[1])
    own = {"path": "bench.word", "pkg": "adm"}

    def check(what, read):
        for _ in range(4):
            read()
        for word in (f"first{time.time_ns()}", f"second{time.time_ns()}"):
            page.call(f"set{what}", data=word, **own, **({"username": USERS[1]} if "User" in what else {}))
            for _ in range(8):
                expect(word in read(), f"{what}: the value of before is shown")

    check("UserPreference", lambda: page.call("getUserPreference", username=USERS[1], **own).text)
    check("Preference", lambda: page.call("getAppPreference", pkg="adm").text)
    print("  preferences that were empty or filled are seen after their change")


def template(url, site):
    """A template of the site is seen when it comes, changes and goes."""
    folder, client = instance(site) / "site/_resources/tpl", Client(url)
    common = (package(site) / "gnrjs/gnr_d11/tpl/standard.tpl").read_text()
    client.log_in(USERS[0])
    expect(has(client, "<!-- bench", False), "the template is there already")
    try:
        folder.mkdir(parents=True)
        for word in ("one", "two"):
            (folder / "standard.tpl").write_text(f"{common}\n<!-- bench {word} -->\n")
            until(f"the template {word}", lambda word=word: has(client, f"<!-- bench {word} -->"), 5)
    finally:
        (folder / "standard.tpl").unlink(missing_ok=True)
        folder.rmdir()
        folder.parent.rmdir()
    until("the common template", lambda: has(client, "<!-- bench", False), 5)
    print("  a template is seen when it comes, changes and goes")


def has(client, text, wanted=True):
    """Returns whether several requests, which any process may serve, have a text."""
    return all((text in client.send("GET", "/").text) == wanted for _ in range(6))


def empty_preferences(site):
    """Makes the preferences of the application and of the second user empty."""
    with contextlib.closing(sqlite3.connect(site / "projects/test_invoice/instances/data/adm.db")) as database:
        database.execute("UPDATE adm_user SET preferences = NULL WHERE username = ?", [USERS[1]])
        database.execute("UPDATE adm_preference SET data = '<?xml version=''1.0'' encoding=''UTF-8''?><GenRoBag></GenRoBag>'")
        database.commit()


def memory(url):
    """Returns the resident memory of each process of the site at a node, with the processes below it, in MiB."""
    port = url.rpartition(":")[2]
    listening = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True).stdout
    node = re.search(r"pid=(\d+)", listening)[1]
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,rss="], capture_output=True, text=True).stdout
    rows = [line.split() for line in table.splitlines()]

    def below(pid):
        return sum(int(rss) + below(own) for own, parent, rss in rows if parent == pid)

    return [(int(rss) + below(own)) / 1024 for own, parent, rss in rows if parent == node]


def measure(urls, runs):
    """Measures both in turns, and prints medians with their ranges."""
    found = {url: {} for url in urls}
    for url in urls:
        times(url, 2)
    for _ in range(max(1, runs // 3)):
        for url in urls:
            for kind, values in times(url, 3).items():
                found[url].setdefault(kind, []).extend(values)
    print(f"{'ms, median (range)':20} {'phase 4':>22} {'phase 5':>22}   ratio")
    for kind in found[urls[0]]:
        old, new = (found[url][kind] for url in urls)
        ratio = statistics.median(new) / statistics.median(old)
        print(f"{kind:20} {shown(old):>22} {shown(new):>22} {ratio:7.2f}")
    print(f"{'MiB of a process':20} {shown(memory(urls[0])):>22} {shown(memory(urls[1])):>22}")


def shown(values):
    return f"{statistics.median(values):.0f} ({min(values):.0f} – {max(values):.0f})"


def run(site, given, scratch):
    empty_preferences(site)
    with contextlib.ExitStack() as stack:
        options = {"processes": given.processes, "register": "genropy"}
        old = start_node(stack, site, given.pagewire.resolve(), scratch / "phase4", **options)
        new = start_node(stack, site, given.pagewire.resolve(), scratch / "phase5", keep=given.keep or "on", **options)
        expect(walk([new]) == walk([old]), "the site does something else")
        print("both do the same")
        same_pages(old, new)
        measure([old, new], given.runs)
        preferences(new)
        template(new, site)
    empty_preferences(site)
    return 0
