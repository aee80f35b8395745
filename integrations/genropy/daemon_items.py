"""Moves the users and connections of a Genropy site out of its daemon, or into it, so that nobody has to log in again.

    python daemon_items.py name SITE                     # the name of the register of the site in Pagewire
    python daemon_items.py export SITE > items.jsonl     # then: pagewire register import NAME items.jsonl
    python daemon_items.py import SITE items.jsonl       # before: pagewire register export NAME > items.jsonl

Owns: the items of gnrdaemon as lines of JSON. Never: a register in Pagewire; `pagewire register` reads and writes that.

It runs in the virtualenv of the site, with the variables of its processes and without `pagewire_genropy` in PYTHONPATH,
while `gnr web daemon` runs. The file has what a cookie of the site has: keep it secret, and delete it.
"""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from pathlib import Path
from typing import Any, Iterable, Iterator

_PROVIDER = Path(__file__).parent / "src/pagewire_genropy"
FIELDS = runpy.run_path(str(_PROVIDER / "fields.py"))
"""The fields of the provider, which cannot be imported: the site would take it for its register."""


def lines(register: Any) -> Iterator[dict[str, Any]]:
    """Returns the users and then the connections of a daemon."""
    for user, item in register.users().items():
        yield {"level": "user", "id": user, "fields": fields("user", item)}
    for connection, item in register.connections().items():
        yield {"level": "connection", "id": connection, "fields": fields("connection", item)}


def fields(level: str, item: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of an item as the register keeps them."""
    times = {name: FIELDS["moment"](item.get(name)) for name in ("start_ts", *FIELDS["REFRESHED"])}
    return {**FIELDS["born"](level, item), **{name: time for name, time in times.items() if time is not None}}


def fill(daemon: Any, items: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Creates the connections of items in a daemon, which creates their users.

    Returns how many are new, and how many it had.
    """
    created = kept = 0
    for item in items:
        if item["level"] != "connection":
            continue
        if daemon.exists(item["id"], register_name="connection"):
            kept += 1
            continue
        given = item["fields"]
        daemon.new_connection(item["id"], **{name: given.get(name) for name in FIELDS["OWN"]["connection"]})
        created += 1
    return created, kept


def name_of(site: str) -> str:
    """Returns the name of the register of a site in Pagewire."""
    keys = runpy.run_path(str(_PROVIDER / "keys.py"))
    return str(keys["register_name"](site))


def register_of(site: str) -> Any:
    """Returns the register of a site, in its daemon."""
    from gnr.web.gnrwsgisite import GnrWsgiSite

    found = GnrWsgiSite(site).register
    if type(found).__module__.startswith("pagewire_genropy"):
        sys.exit("Pagewire keeps the register of this site: take pagewire_genropy out of PYTHONPATH")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["name", "export", "import"])
    parser.add_argument("site")
    parser.add_argument("file", nargs="?", default="-", help="import: the items; - for the standard input")
    given = parser.parse_args()
    if given.what == "name":
        print(name_of(given.site))
        return
    register = register_of(given.site)
    if given.what == "export":
        for line in lines(register):
            print(json.dumps(line))
        return
    with sys.stdin if given.file == "-" else open(given.file) as source:
        created, kept = fill(register.siteregister, (json.loads(line) for line in source if line.strip()))
    print(f"{created} connections created, {kept} were there already")


if __name__ == "__main__":
    main()
