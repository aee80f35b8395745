"""Kills a process of a site, a node and NATS while users work at two nodes. Nobody has to log in again.

Owns: what is killed, and what each user sees. Never: the servers (`register`, `stacks`).
"""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import threading
import time
import urllib.request

from client import Client
from register import USERS, expect, nats
from stacks import free_address, process, start_node, until

VISITORS = 6


class Visitor(threading.Thread):
    """A user with a page, who polls and calls all the time, at the other node if one does not answer."""

    def __init__(self, urls, user):
        super().__init__(daemon=True)
        self.client = Client(urls[0])
        self.page = self.client.log_in(user)
        self.urls, self.user = list(urls), user
        self.answers, self.failures, self.strange = 0, 0, []
        self.is_over = False

    def run(self):
        while not self.is_over:
            self._try(self.page.ping, "GenRoBag")
            self._try(lambda: self.page.call("connection.connected_users_bag"), "<result>")

    def _try(self, send, expected):
        try:
            answer = send()
        except (OSError, http.client.HTTPException):
            self.failures += 1
            self.urls.reverse()
            self.client.go_to(self.urls[0])
            return
        if answer.status == 200 and expected in answer.text:
            self.answers += 1
        elif answer.status >= 500:
            self.failures += 1
            time.sleep(0.05)
        else:
            self.strange.append(answer)

    def works(self):
        """Returns whether it gets answers now."""
        before = self.answers
        return until(f"answers for {self.user}", lambda: self.answers > before + 2, 60)


def children(url):
    """Returns the processes of a site at a node."""
    with urllib.request.urlopen(f"{url}/api/v1/executors", timeout=10) as answer:
        pools = json.load(answer)["pools"]
    return [child["pid"] for pool in pools for child in pool["children"] if child["state"] == "ready"]


def parent_of(pid):
    fields = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in fields if line.startswith("PPid")).split()[1])


def node_of(pid):
    """Returns the node above a process: the server of the site may be between both."""
    above = []
    while (pid := parent_of(pid)) > 1:
        above.append(pid)
    return next(pid for pid in reversed(above) if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "pagewire")


def broken(name, visitors, act):
    """Breaks something, and waits until everybody works."""
    before = sum(visitor.failures for visitor in visitors)
    start = time.monotonic()
    act()
    for visitor in visitors:
        visitor.works()
    spent, failed = time.monotonic() - start, sum(visitor.failures for visitor in visitors) - before
    for visitor in visitors:
        expect(not visitor.strange, f"{name}: {visitor.user} has got {visitor.strange[:1]}")
    print(f"{name:34} all work again after {spent:4.1f} s; {failed} failed requests; nobody is logged out", flush=True)


def run(site, given, scratch):
    address = free_address()
    with contextlib.ExitStack() as stack:
        command = nats(address, scratch)
        servers = [stack.enter_context(process(command, scratch / "nats.log"))]
        options = {
            "processes": given.processes,
            "register": "genropy",
            "cluster": f'nats.urls = ["nats://{address}"]\nnode.internal = "127.0.0.1:0"\n',
            "sticky": "connection",
            "keep": given.keep,
        }
        start = [(stack, site, given.pagewire.resolve(), scratch / f"node{number}") for number in range(2)]
        urls = [start_node(*one, **options) for one in start]
        visitors = [Visitor(urls[:: 1 if n % 2 else -1], USERS[n // 2 % 2]) for n in range(VISITORS)]
        for visitor in visitors:
            visitor.start()

        def kill_nats():
            servers[0].kill()
            servers[0].wait()
            time.sleep(1)
            servers.append(stack.enter_context(process(command, scratch / "nats-again.log")))

        broken("nothing is killed", visitors, lambda: None)
        broken("a process of the site is killed", visitors, lambda: os.kill(children(urls[0])[0], signal.SIGKILL))
        broken("NATS is killed and starts again", visitors, kill_nats)
        broken("a node is killed", visitors, lambda: os.kill(node_of(children(urls[1])[0]), signal.SIGKILL))
        for visitor in visitors:
            visitor.is_over = True
            visitor.join()
    return 0
