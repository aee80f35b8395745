"""What two users do with a site at each phase, on the way and back.

Owns: the phases, and the comparison of what they show. Never: the steps (`walk`), or the processes (`stacks`).
"""

import contextlib

from register import start_nats
from sockets import configured
from stacks import start_daemon, start_node
from walk import walk

WAY = ("0", "3", "shadow", "4", "5", "7", "5", "4", "3", "0")

PHASES = {
    "0": {},
    "3": {"pushes": True},
    "shadow": {"pushes": True, "register": "shadow:genropy"},
    "4": {"register": "genropy"},
    "5": {"register": "genropy", "keep": "on"},
    "7": {"register": "genropy", "keep": "on", "sticky": "connection"},
}


def start(stack, site, folder, given, phase, scratch):
    """Starts the site at a phase, and returns the URLs of its nodes."""
    options = {**PHASES[phase], "processes": given.processes}
    if options.get("register") != "genropy":
        start_daemon(stack, site, scratch)
    if options.pop("pushes", False):
        options["pushes"] = folder / "site/sockets/async.sock"
    if phase == "7":
        options["cluster"] = start_nats(stack, scratch) + 'node.internal = "127.0.0.1:0"\n'
    program, count = given.pagewire.resolve(), 2 if phase == "7" else 1
    return [start_node(stack, site, program, scratch / f"node{number}", **options) for number in range(count)]


def run(site, folder, given, scratch):
    """Takes the steps at each phase; returns 1 if one of them shows something else than the first."""
    first, differs = None, 0
    for number, phase in enumerate(WAY):
        print(f"phase {phase}", flush=True)
        part = scratch / str(number)
        part.mkdir()
        with contextlib.ExitStack() as stack:
            if phase != "0":
                stack.enter_context(configured(folder))
            urls = start(stack, site, folder, given, phase, part)
            seen = walk(urls, given.screenshots and given.screenshots / f"{number}-phase-{phase}")
        first = first or seen
        for one, other in zip(first, seen):
            if one != other:
                print(f"differs: {one[0]}: {one[1]} and {other[1]}", flush=True)
                differs = 1
    return differs
