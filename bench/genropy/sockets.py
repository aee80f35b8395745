"""The sockets of the pages of a site, with its register in Pagewire or with its daemon: two browsers, which poll no more.

Owns: what is pushed, and how long it takes. Never: the servers (`register`, `stacks`).
"""

import contextlib
import statistics
import time

from browser import CUSTOMERS, Browser
from register import USERS, expect, start_nodes
from stacks import start_daemon, start_node, until
from walk import LISTEN, change_email

CONFIGURATION = '<?xml version="1.0" ?>\n<GenRoBag><wsgi websockets="True"/></GenRoBag>\n'

# the page does not poll any more, and notes what comes over its socket, with the time
ONLY_SOCKET = """
window.poll = genro.rpc.ping;
genro.rpc.ping = () => {};
window.pushed = [];
genro.wsk.socket.onmessage = (event) => {
    if (event.data !== 'pong') window.pushed.push([Date.now(), event.data]);
    genro.wsk.onmessage(event);
};
"""

SEND = """
genro.serverCall(arguments[0], arguments[1], () => {});
return Date.now();
"""


@contextlib.contextmanager
def configured(folder):
    """Switches the sockets of a site on, for as long as this is used."""
    file = folder / "site/siteconfig.xml"
    expect(not file.exists(), f"{file} exists already")
    file.parent.mkdir(exist_ok=True)
    file.write_text(CONFIGURATION)
    try:
        yield
    finally:
        file.unlink()


def listen(browser):
    until("the socket", lambda: browser.run("return genro.wsk.socket.readyState") == 1)
    browser.run(ONLY_SOCKET)


def arrival(browser, text):
    """Waits until a text has come over the socket of a page, and returns when it came; it must come once."""

    def found():
        return [when for when, pushed in browser.run("return window.pushed") if text in pushed]

    until(f"{text} over the socket", found)
    expect(len(found()) == 1, f"{text} has come twice")
    return found()[0]


def measure(name, runs, push):
    """Repeats a push, and prints the milliseconds from the call of one page to the arrival at the other one."""
    took = [push(f"{name} {time.time_ns()}") for _ in range(runs)]
    print(f"{name:34} {statistics.median(took):6.0f} ms  {min(took)} – {max(took)}", flush=True)


def message(one, text):
    """Sends a message to the second user. Returns when, on the clock of the browsers."""
    return one.run(SEND, "sendMessageToClient", {"message": text, "filters": f"user:{USERS[1]}"})


def message_took(one, other, text):
    sent = message(one, text)
    return arrival(other, text) - sent


@contextlib.contextmanager
def listening(urls):
    """Opens a page for each user, with its socket."""
    with Browser(urls[0]) as one, Browser(urls[-1]) as other:
        for browser, user in zip((one, other), USERS):
            browser.login(user)
            listen(browser)
        yield one, other
        for browser in (one, other):
            expect(not browser.failures(), "a request has failed")


def walk(urls, runs):
    with listening(urls) as (one, other):
        subscription = {"storename": "user", "client_path": "gnr.chat.msg", "active": True}
        other.run(SEND, "setStoreSubscription", subscription)

        def chat(text):
            return -one.run(SEND, "chatMessageToUser", {"msg": text, "user": USERS[1], "roomId": "cr_1"}) + arrival(other, text)

        measure("a message to a user", runs, lambda text: message_took(one, other, text))
        measure("a change of the store of a user", runs, chat)
        save(one, other)


def walk_beside_daemon(url, runs):
    """Pushes to a page over its socket, and to one whose socket is closed, which has the message with its poll."""
    with listening([url]) as (one, other):
        measure("a message to a user", runs, lambda text: message_took(one, other, text))
        other.run("genro.rpc.ping = window.poll; genro.wsk.socket.close()")
        until("a closed socket", lambda: other.run("return genro.wsk.socket.readyState") == 3)
        text = f"polled {time.time_ns()}"
        message(one, text)
        until("the message in a poll", lambda: (other.ping(), other.run("return genro.getData('gnr.servermsg')") == text)[1])
        print("a page without a socket has the message with its poll")


def save(one, other):
    """Changes a record in the form of one page; the other one is told over its socket."""
    one.customers()
    other.open(CUSTOMERS)
    listen(other)
    other.run(LISTEN)
    change_email(one)
    until("the event of the table", lambda: other.run("return window.changes.length"))
    expect(other.run("return window.changes.length") == 1, "the event has come twice")
    print("a saved record is seen by the other page")


def run(site, folder, given, scratch):
    with configured(folder), contextlib.ExitStack() as stack:
        walk(start_nodes(stack, site, given, scratch), given.runs)
    return 0


def run_beside_daemon(site, folder, given, scratch):
    """Does the same with the daemon of the site and one node, at which the site pushes to its pages."""
    with configured(folder), contextlib.ExitStack() as stack:
        start_daemon(stack, site, scratch)
        pushes = folder / "site/sockets/async.sock"
        options = {"processes": given.processes, "pushes": pushes}
        walk_beside_daemon(start_node(stack, site, given.pagewire.resolve(), scratch / "node", **options), given.runs)
    return 0
