#!/usr/bin/env python3
"""The wheel of the Python package with the program in it: builds it, installs it into a new environment and uses it.

    python3 tests/wheel.py --binary target/release/pagewire --python .tools/venv/bin/python

`--python` is a Python with hatchling, which builds the wheel. The environment gets nothing but the wheel, no network is
used. Prints the size of the wheel and the seconds from `pip install` to the first page of an application. Fails if the
environment has not the program and the package, or if the applications of the README and of the tutorial do not run in it.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60


def build(python, binary, folder):
    """Builds the wheel and returns its path."""
    command = [python, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "--disable-pip-version-check"]
    environment = dict(os.environ, PAGEWIRE_BINARY=str(binary))
    subprocess.run([*command, "-w", folder, ROOT / "clients/python"], check=True, env=environment)
    (wheel,) = Path(folder).glob("pagewire-*.whl")
    assert re.search(r"-py3-none-(manylinux|macosx|linux)_\w+\.whl$", wheel.name), wheel.name
    return wheel


def application(document):
    """Returns the first application of a document."""
    return (ROOT / document).read_text().split("```python\n", 1)[1].split("```", 1)[0]


def called(url, method, params):
    """Returns the result of a call, or None while there is none."""
    body = json.dumps({"method": method, "params": params}).encode()
    return fetched(urllib.request.Request(f"{url}/api/v1/calls", body, {"content-type": "application/json"}))


def fetched(request):
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            body = response.read()
            return json.loads(body) if response.headers.get_content_type() == "application/json" else body
    except (urllib.error.URLError, OSError):
        return None


def wait(what, check):
    """Waits until `check` returns something, and returns it."""
    begun = time.monotonic()
    while (found := check()) is None:
        if time.monotonic() - begun > PATIENCE:
            sys.exit(f"within {PATIENCE} s it did not happen that {what}")
        time.sleep(0.02)
    return found


def run(command, folder, port, check):
    """Runs a program that serves at the port, and what is checked of it."""
    # an environment that is not active, as in a container
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PAGEWIRE_", "VIRTUAL_"))}
    environment.pop("PYTHONPATH", None)
    log = folder / "program.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            check(f"http://127.0.0.1:{port}")
        except BaseException:
            print(log.read_text())
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def check_tutorial(url):
    data = {"data": b'{"name": "Ada"}', "headers": {"content-type": "application/json"}}
    greeting = wait("the tutorial serves", lambda: fetched(urllib.request.Request(f"{url}/_call/hello", **data)))
    assert greeting == "Hello, Ada!", greeting


def check_readme(url):
    greeting = wait("the application serves", lambda: called(url, "greet", {"name": "Ann"}))
    assert greeting == "Hello Ann", greeting
    assert called(url, "count", {"to": 10}) == 45
    assert b"<html" in fetched(url), "the first page"


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/pagewire")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        begun = time.monotonic()
        wheel = build(options.python, options.binary.resolve(), folder)
        size, took = wheel.stat().st_size / 1e6, time.monotonic() - begun
        print(f"{wheel.name}: {size:.1f} MB, built in {took:.1f} s", flush=True)
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv/bin"
        begun = time.monotonic()
        # nothing but the wheel: it needs no other package
        install = [programs / "pip", "install", "-q", "--no-index", "--disable-pip-version-check", wheel]
        subprocess.run(install, check=True)
        installed = time.monotonic() - begun
        version = output(programs / "pagewire", "--version")
        assert version == f"pagewire {wheel.name.split('-')[1]}\n", version
        dev = [programs / "pagewire", "dev", "app:app", "--listen"]
        (folder / "app.py").write_text(application("README.md"))
        port = free_port()
        run([*dev, f"127.0.0.1:{port}"], folder, port, check_readme)
        total = time.monotonic() - begun
        print(f"pip install: {installed:.1f} s; to the first page and call of an application: {total:.1f} s")
        (folder / "app.py").write_text(application("docs/tutorial.md"))
        port = free_port()
        run([*dev, f"127.0.0.1:{port}"], folder, port, check_tutorial)
        # what `python app.py` starts, without the program in PATH
        find = "from pagewire.alone import find_program; print(find_program())"
        found = output(programs / "python", "-c", find)
        assert found.strip() == str(programs / "pagewire"), found


if __name__ == "__main__":
    main()
