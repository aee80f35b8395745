"""The sockets of the pages of a site that has its register in Pagewire: two browsers, which poll no more.

Owns: what is pushed, and how long it takes. Never: the servers (`register`).
"""

import contextlib
import statistics
import time

from browser import CUSTOMERS, Browser
from register import USERS, expect, start_nodes
from stacks import until
from walk import LISTEN, change_email

CONFIGURATION = '<?xml version="1.0" ?>\n<GenRoBag><wsgi websockets="True"/></GenRoBag>\n'

# the page does not poll any more, and notes what comes over its socket, with the time
ONLY_SOCKET = """
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


def walk(urls, runs):
    with Browser(urls[0]) as one, Browser(urls[-1]) as other:
        for browser, user in zip((one, other), USERS):
            browser.login(user)
            listen(browser)
        subscription = {"storename": "user", "client_path": "gnr.chat.msg", "active": True}
        other.run(SEND, "setStoreSubscription", subscription)

        def message(text):
            return -one.run(SEND, "sendMessageToClient", {"message": text, "filters": f"user:{USERS[1]}"}) + arrival(other, text)

        def chat(text):
            return -one.run(SEND, "chatMessageToUser", {"msg": text, "user": USERS[1], "roomId": "cr_1"}) + arrival(other, text)

        measure("a message to a user", runs, message)
        measure("a change of the store of a user", runs, chat)
        save(one, other)
        for browser in (one, other):
            expect(not browser.failures(), "a request has failed")


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
