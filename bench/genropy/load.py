"""How many requests a site serves in a second, with several processes and nodes.

Owns: the visitors, each in a process of its own, and the arrangements that are compared. Never: the servers (`register`).
"""

import contextlib
import copy
import multiprocessing
import statistics
import time

from client import Client
from register import USERS, start_nodes

VISITORS = 6
SECONDS = 5
ARRANGEMENTS = ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2))
"""Nodes, and processes of the site at each."""

KINDS = {
    "a small call": lambda client, page: page.call("connection.connected_users_bag"),
    "a page opens": lambda client, page: client.open("/").close(),
}


def visit(url, user, kind, start, answered):
    """Sends one request after the other, and reports the number of answers."""
    client = Client(url)
    page = client.log_in(user)
    send, count = KINDS[kind], 0
    start.wait()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        send(client, page)
        count += 1
    page.close()
    answered.put(count)


def requests_per_second(urls, kind):
    """Lets all visitors send requests at the same time, in turns at these URLs."""
    start, answered = multiprocessing.Barrier(VISITORS), multiprocessing.Queue()
    visitors = [
        multiprocessing.Process(target=visit, args=(urls[n % len(urls)], USERS[n % 2], kind, start, answered))
        for n in range(VISITORS)
    ]
    for visitor in visitors:
        visitor.start()
    counts = [answered.get(timeout=120) for _ in visitors]
    for visitor in visitors:
        visitor.join()
    return sum(counts) / SECONDS


def measure(site, given, scratch, nodes, processes):
    """Returns the requests in a second of each kind, of several runs."""
    arranged = copy.copy(given)
    arranged.nodes, arranged.processes = nodes, processes
    folder = scratch / f"{nodes}-{processes}"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        urls = start_nodes(stack, site, arranged, folder)
        rounds = max(1, given.runs // 3)
        return {kind: [requests_per_second(urls, kind) for _ in range(rounds)] for kind in KINDS}


def run(site, given, scratch):
    found = {arrangement: measure(site, given, scratch, *arrangement) for arrangement in ARRANGEMENTS}
    for kind in KINDS:
        print(kind)
        for (nodes, processes), rates in found.items():
            middle, low, high = statistics.median(rates[kind]), min(rates[kind]), max(rates[kind])
            print(f"  {nodes} node(s), {processes} process(es) each {middle:8.0f} /s   {low:.0f} – {high:.0f}")
    return 0
