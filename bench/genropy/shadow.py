"""A site goes from its daemon over the shadow to the register in Pagewire and back, with the same cookies and open pages.

Owns: these moves, and the count of what the shadow has compared. Never: what users do (`register`).
"""

import concurrent.futures
import contextlib
import re
import time

import register
from client import CUSTOMERS, Client
from register import USERS, expect
from stacks import start_daemon, start_gunicorn, start_node, until
from way_back import daemon_items, is_logged_in
from way_back import register as command

SUMMARY = re.compile(r"the shadow of the register, process (\d+): compared (\d+), differences (\d+), errors (\d+), adopted (\d+)")
DIFFERENCE = re.compile(r"a register differs: .*|the second register fails: .*")
# a change without its twin is a difference after 5 s, and the counts are told every 10 s
PATIENCE = 16


class Session:
    """A user with a start page and a table page, which stay open."""

    def __init__(self, url, user):
        self.user, self.client = user, Client(url)
        self.start = self.client.log_in(user)
        self.table = self.client.open(CUSTOMERS)
        self.table.build()
        # so that a page receives what is saved by another one
        self.table.call("subscribeTable", table="invc.customer", subscribe="true::B")

    def pages(self):
        return (self.start, self.table)


def go_on(sessions, url, what):
    """Has open pages work at another URL: nobody logs in or reloads, and news arrive."""
    for session in sessions:
        session.client.go_to(url)
    for session in sessions:
        for page in session.pages():
            answer = page.ping()
            expect(answer.status == 200, f"{what}: a page of {session.user} has to reload: {answer}")
        expect(is_logged_in(session.client, url, session.user), f"{what}: {session.user} has to log in")
    one, other = sessions
    register.save_and_see(one.table, other.table)
    message = f"hello {time.time_ns()}"
    one.start.call("sendMessageToClient", message=message, filters=f"user:{other.user}")
    until("the message", lambda: message in other.start.ping().text)
    print(f"{what}: open pages go on", flush=True)


def at_once(sessions, rounds):
    """Has all users work at the same time, so that requests meet in the processes of the site."""

    def work(session):
        key = register.record(session.table)
        for number in range(rounds):
            page = session.client.open("/")
            page.build()
            session.table.save(key, email=f"c{time.time_ns()}@x.test")
            session.start.call("sendMessageToClient", message=f"round {number}", filters="*")
            session.start.call("chatMessageToUser", msg="hello", user=sessions[0].user, roomId=f"cr_{time.time_ns()}")
            for polled in (session.start, session.table, page):
                expect(polled.ping().status == 200, "a page has to reload")
            page.close()

    with concurrent.futures.ThreadPoolExecutor(len(sessions)) as threads:
        list(threads.map(work, sessions))
    print(f"{len(sessions)} browsers at the same time, {rounds} rounds", flush=True)


def counts(log):
    """Returns how many processes have compared something, the sums of their counts, and the lines with what differs."""
    text = log.read_text(errors="replace")
    last = {found[1]: [int(number) for number in found.groups()[1:]] for found in SUMMARY.finditer(text)}
    lines = [found[0] for found in DIFFERENCE.finditer(text)]
    return [len(last), *(sum(numbers) for numbers in zip(*last.values()))], lines


def settle(sessions, log):
    """Polls until late differences are reported, prints the counts, and returns the lines with differences and errors."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for page in (page for session in sessions for page in session.pages()):
            page.ping()
        time.sleep(0.5)
    numbers, lines = counts(log)
    expect(numbers[0], "the log has no counts")
    print("in the shadow: {} processes, {} answers compared, {} differences, {} errors, {} items adopted".format(*numbers), flush=True)
    for line in lines[:40]:
        print(f"  {line}")
    return lines


def run(site, given, scratch):
    program, folder = given.pagewire.resolve(), scratch / "node"
    options = {"processes": given.processes, "cluster": f'data_dir = "{scratch / "data"}"\n'}
    with contextlib.ExitStack() as daemon:
        start_daemon(daemon, site, scratch)
        with contextlib.ExitStack() as stack:
            sessions = [Session(start_gunicorn(stack, site, scratch), user) for user in USERS]
        with contextlib.ExitStack() as stack:
            url = start_node(stack, site, program, folder / "shadow", register="shadow:genropy", **options)
            go_on(sessions, url, "from gunicorn to the shadow")
            print(*(f"  {name}" for name in register.walk([url])), sep="\n")
            sessions += [Session(url, user) for user in USERS]
            go_on(sessions[2:], url, "pages of the shadow")
            at_once(sessions, given.runs)
            lines = settle(sessions, folder / "shadow/pagewire.log")
    name = daemon_items(site, "name", "test_invoice").strip()
    file = scratch / "items.jsonl"
    with contextlib.ExitStack() as stack:
        url = start_node(stack, site, program, folder / "register", register="genropy", **options)
        expect(not register.is_daemon(), "the daemon still runs")
        go_on(sessions[:2], url, "pages from before the shadow, in phase 4 without a daemon")
        go_on(sessions[2:], url, "pages of the shadow, in phase 4 without a daemon")
        file.write_text(command(program, url, "export", name))
    with contextlib.ExitStack() as stack:
        start_daemon(stack, site, scratch)
        print(daemon_items(site, "import", "test_invoice", file), end="")
        url = start_node(stack, site, program, folder / "back", register="shadow:genropy", **options)
        for session in sessions:
            expect(is_logged_in(session.client, url, session.user), f"{session.user} has to log in to the daemon")
            expect(session.start.ping().status == 412, "the daemon knows a page that it does not have")
        print("back in the shadow: users stay logged in, open pages reload", flush=True)
        fresh = [Session(url, user) for user in USERS]
        go_on(fresh, url, "new pages")
        lines += settle(fresh, folder / "back/pagewire.log")
    return 1 if lines else 0
