"""A site moves from its daemon to a register in Pagewire and back, and its users stay logged in.

Owns: the commands of the move, and what proves that a user is logged in. Never: requests (`client`).
"""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from client import Client
from installation import environment, instance
from register import USERS, expect
from stacks import start_node, start_plain

SCRIPT = Path(__file__).parents[2] / "integrations/genropy/daemon_items.py"


def daemon_items(site, *arguments):
    """Runs the script of the move in the virtualenv of the site. Returns what it prints."""
    command = [site / "v/bin/python", SCRIPT, *arguments]
    return subprocess.run(command, cwd=instance(site), env=environment(site), capture_output=True, text=True, check=True).stdout


def is_logged_in(client, url, user):
    """Opens a page at another URL with the cookies that the client has."""
    client.go_to(url)
    return user in client.open("/").build().text


def run(site, given, scratch):
    name = daemon_items(site, "name", "test_invoice").strip()
    file, program = scratch / "items.jsonl", given.pagewire.resolve()
    with contextlib.ExitStack() as stack:
        plain = start_plain(stack, site, scratch)
        clients = [Client(plain) for _ in USERS]
        for client, user in zip(clients, USERS):
            client.log_in(user)
        file.write_text(daemon_items(site, "export", "test_invoice"))
    with contextlib.ExitStack() as stack:
        node = start_node(stack, site, program, scratch / "node", processes=1, register="genropy")
        expect(not is_logged_in(Client(node), node, USERS[0]), "a browser without cookies is logged in")
        start = time.monotonic()
        print(register(program, node, "import", name, file), end="")
        print(f"in the register after {time.monotonic() - start:.2f} s")
        for client, user in zip(clients, USERS):
            expect(is_logged_in(client, node, user), f"{user} has to log in to the register")
        print("both users are logged in")
        file.write_text(register(program, node, "export", name))
    with contextlib.ExitStack() as stack:
        plain = start_plain(stack, site, scratch)
        print(daemon_items(site, "import", "test_invoice", file), end="")
        for client, user in zip(clients, USERS):
            expect(is_logged_in(client, plain, user), f"{user} has to log in to the daemon")
        print("both users are logged in")
    return 0


def register(program, node, *arguments):
    command = [program, "register", *arguments, "--url", node]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout
