"""Drives a Genropy site as its plain stack and behind Pagewire, in Chromium or with the requests of its pages.

    python -m venv VENV && VENV/bin/pip install selenium==4.38.0      # chromium and chromedriver are in PATH
    VENV/bin/python bench/genropy install --site DIR                  # a site with data on SQLite, 0.8 GB
    VENV/bin/python bench/genropy walk --site DIR                     # what two users do, in both stacks
    VENV/bin/python bench/genropy walk-phases --site DIR              # the same at each phase, and back
    VENV/bin/python bench/genropy first-page --site DIR --runs 9      # the first page with an empty cache
    python3 bench/genropy register --site DIR --runs 9                # the register of Pagewire and that of the daemon
    python3 bench/genropy phases --site DIR --runs 9                  # what a site keeps between requests, and without
    python3 bench/genropy way-back --site DIR                         # from the daemon to the register and back
    python3 bench/genropy shadow --site DIR                           # both are compared, then phase 4, and back
    python3 bench/genropy load --site DIR --runs 9                    # requests in a second with 1, 2 and 4 processes
    python3 bench/genropy breaks --site DIR                           # a process, a node and NATS are killed under load
    python3 bench/genropy tasks --site DIR                            # task scheduler, worker and a console beside a node
    VENV/bin/python bench/genropy sockets --site DIR --runs 9         # pushes to pages that do not poll
    VENV/bin/python bench/genropy pushes --site DIR --runs 9          # the same, beside the daemon of the site

Nothing of it is a part of the tests: the site is large, and its data changes.
"""

import argparse
import pathlib
import sys
import tempfile

import breaks
import installation
import load
import phases
import register
import shadow
import stacks
import tasks
import way_back

PROGRAM = pathlib.Path(__file__).parents[2] / "target/release/pagewire"


# what needs no browser; the others need selenium
WITHOUT_BROWSER = {
    "register": register.compare,
    "shadow": shadow.run,
    "tasks": tasks.run,
    "phases": phases.run,
    "load": load.run,
    "breaks": breaks.run,
    "way-back": way_back.run,
}
IN_BROWSERS = ["walk", "walk-phases", "first-page", "sockets", "pushes"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["install", *WITHOUT_BROWSER, *IN_BROWSERS])
    parser.add_argument("--site", type=pathlib.Path, required=True, help="the folder of the site")
    parser.add_argument("--pagewire", type=pathlib.Path, default=PROGRAM, help="the program to measure")
    parser.add_argument("--runs", type=int, default=9, help="number of runs of each stack, shadow: rounds")
    parser.add_argument("--processes", type=int, default=2, help="register, phases, sockets, shadow: processes of the site at each node")
    parser.add_argument("--nodes", type=int, default=1, help="register, sockets: nodes; more than one need NATS_SERVER")
    parser.add_argument("--keep", default="", help="register, phases, sockets: the value of GENROPY_KEEP; phases: on")
    parser.add_argument("--screenshots", type=pathlib.Path, help="folder for pictures of the walk")
    return parser.parse_args()


def main():
    given = arguments()
    site = given.site.resolve()
    if given.what == "install":
        installation.install(site)
        return 0
    with tempfile.TemporaryDirectory(prefix="pagewire-genropy-") as folder:
        scratch = pathlib.Path(folder)
        if given.what in WITHOUT_BROWSER:
            return WITHOUT_BROWSER[given.what](site, given, scratch)
        return in_browsers(site, given, scratch)


def in_browsers(site, given, scratch):
    import first_page
    import sockets
    import walk
    import walk_phases

    of_instance = {"sockets": sockets.run, "pushes": sockets.run_beside_daemon, "walk-phases": walk_phases.run}
    if given.what in of_instance:
        return of_instance[given.what](site, installation.instance(site), given, scratch)
    with stacks.running(site, given.pagewire.resolve(), scratch) as urls:
        if given.what == "first-page":
            first_page.measure(urls, given.runs)
            return 0
        return walk.compare(urls, given.screenshots)


if __name__ == "__main__":
    sys.exit(main())
