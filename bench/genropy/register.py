"""The register of a site in Pagewire, with no daemon at all, beside the plain stack.

Owns: what two users do, what their pages receive, and the times of requests. Never: the form of requests (`client`).
"""

import contextlib
import os
import re
import statistics
import subprocess
import time

from client import CUSTOMERS, Client
from stacks import DAEMON, free_address, process, start_node, start_plain, until

USERS = ("amelia.martin", "james.wilson")


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


def walk(urls):
    """Lets two users do what needs the register, with each request at another URL. Returns the names of the steps."""
    seen = []

    def step(name, done):
        expect(done, name)
        seen.append(name)

    one, other = Client(*urls), Client(*reversed(urls))
    first, second = one.log_in(USERS[0]), other.log_in(USERS[1])
    step("two users log in", True)
    table, watching = one.open(CUSTOMERS), other.open(CUSTOMERS)
    step("table pages open", all(page.build().status == 200 for page in (table, watching)))
    step("a ping has no news", "dataChanges" not in watching.ping().text)
    save_and_see(table, watching)
    step("a record saved by one is seen by the other, once", "dbchanges" not in watching.ping().text)
    message = f"hello {time.time_ns()}"
    first.call("sendMessageToClient", message=message, filters=f"user:{USERS[1]}")
    step("a message to a user arrives", until("the message", lambda: message in second.ping().text))
    chat(first, second)
    step("a chat that begins before its window is open arrives", True)
    shown = first.call("connection.connected_users_bag").text
    step("the users are listed", USERS[1] in shown)
    step("a page of another connection is refused", steal(one, second).status == 400)
    watching.close()
    step("a closed page is unknown", until("the end of the page", lambda: watching.ping().status == 412))
    first.call("connection.logout")
    step("a logout ends the pages", until("the end of the connection", lambda: first.ping().status == 412))
    step("a login after the logout", one.log_in(USERS[0]).ping().status == 200)
    return seen


def save_and_see(page, watching):
    """Changes a record, and waits for the event in the poll of another page."""
    key = record(page)
    answer = page.save(key, email=f"w{time.time_ns()}@x.test")
    expect("insertedRecords" in answer.text, f"no record is saved: {answer}")
    until("the event", lambda: key in watching.ping().text)


def record(page):
    """Returns the key of a customer, by the selection that a grid asks for."""
    answer = page.call("app.getSelection", table="invc.customer", columns="$account_name", limit="1::L")
    return re.search(r'_pkey="([^"]+)"', answer.text)[1]


def chat(one, other):
    word = f"chat {time.time_ns()}"
    one.call("chatMessageToUser", msg=word, user=USERS[1], roomId=f"cr_{time.time_ns()}")
    answer = other.call("setStoreSubscription", storename="user", client_path="gnr.chat.msg", active="true::B")
    until("the chat", lambda: word in answer.text or word in other.ping().text)
    one.call("chatMessageToUser", msg=word + " again", user=USERS[1], roomId=f"cr_{time.time_ns()}")
    until("the second message", lambda: word + " again" in other.ping().text)


def steal(client, page):
    """Calls a page of another user."""
    return client.post("/", method="connection.connected_users_bag", page_id=page.id)


def times(url, runs):
    """Returns the milliseconds of each kind of request."""
    client = Client(url)
    start = client.log_in(USERS[0])
    table = client.open(CUSTOMERS)
    table.build()
    key = record(table)
    kinds = ("page open", "table page open", "build", "small rpc", "ping", "process ping", "save")
    found = {kind: [] for kind in kinds}
    for _ in range(runs):
        page = client.open("/")
        found["page open"].append(page.took)
        found["build"].append(page.build().took)
        opened = client.open(CUSTOMERS)
        found["table page open"].append(opened.took)
        for closed in (page, opened):
            closed.close()
        found["small rpc"].append(start.call("connection.connected_users_bag").took)
        found["ping"] += [start.ping().took for _ in range(3)]
        # a parameter that the node does not know
        found["process ping"] += [start.ping(other="1").took for _ in range(3)]
        found["save"].append(table.save(key, email=f"t{time.time_ns()}@x.test").took)
    return found


def measure(plain, nodes, runs):
    """Measures both stacks in turns, and prints medians and minima."""
    rounds = max(1, runs // 3)
    total = {plain: {}, nodes[0]: {}}
    for _ in range(rounds):
        for url, found in total.items():
            for kind, values in times(url, 3).items():
                found.setdefault(kind, []).extend(values)
    print(f"{'':16} {'plain p50/min ms':>20} {'pagewire p50/min ms':>22}   ratio")
    for kind, before in total[plain].items():
        after = total[nodes[0]][kind]
        middle, now = statistics.median(before), statistics.median(after)
        print(f"{kind:16} {middle:12.1f}/{min(before):7.1f} {now:14.1f}/{min(after):7.1f} {now / middle:7.2f}")


def compare(site, given, scratch):
    """Walks with nodes alone and with the plain stack, then measures both."""
    with contextlib.ExitStack() as stack:
        nodes = start_nodes(stack, site, given, scratch)
        expect(not is_daemon(), "a daemon runs, but the nodes have to be alone")
        alone = walk(nodes)
        print(*(f"  {name}" for name in alone), sep="\n")
        plain = start_plain(stack, site, scratch)
        expect(walk([plain]) == alone, "the plain stack does something else")
        print("the plain stack does the same", flush=True)
        measure(plain, nodes, given.runs)
    return 0


def start_nodes(stack, site, given, scratch):
    """Starts the nodes, and for more than one a NATS server."""
    cluster = ""
    if given.nodes > 1:
        cluster = start_nats(stack, scratch)
    options = {"processes": given.processes, "register": "genropy", "cluster": cluster, "keep": given.keep}
    start = time.monotonic()
    urls = [
        start_node(stack, site, given.pagewire.resolve(), scratch / f"node{number}", **options)
        for number in range(given.nodes)
    ]
    print(f"{given.nodes} node(s) with {given.processes} process(es) after {time.monotonic() - start:.1f} s", flush=True)
    return urls


def start_nats(stack, scratch):
    """Starts a NATS server, and returns what the nodes of its cluster have in their configuration."""
    address = free_address()
    stack.enter_context(process(nats(address, scratch), scratch / "nats.log"))
    return f'nats.urls = ["nats://{address}"]\n'


def nats(address, scratch):
    """Returns the command of a NATS server, which keeps its data."""
    port = address.rpartition(":")[2]
    server = [os.environ.get("NATS_SERVER", "nats-server"), "-js", "-a", "127.0.0.1", "-p", port]
    return [*server, "-sd", scratch / "nats"]


def is_daemon():
    """Returns whether something accepts connections at the port of the daemon."""
    found = subprocess.run(["ss", "-Hltn", f"sport = :{DAEMON}"], capture_output=True, text=True)
    return bool(found.stdout.strip())
