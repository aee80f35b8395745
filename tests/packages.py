#!/usr/bin/env python3
"""The packages of the crates: makes them and checks that each contains the files that its sources include.

    python3 tests/packages.py            what the test command runs
    python3 tests/packages.py --build    also builds each package by itself, as its users do: minutes
"""

import argparse
import os.path
import re
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES = ["pagewire-cluster", "pagewire-worker", "pagewire"]
INCLUDED = re.compile(r'include_(?:str|bytes)!\("([^"]+)"\)')
# the package of Python, which is included by a list of names
PYTHON = "src/roles/python_package.rs"
GENROPY = "src/roles/genropy_package.rs"


def texts(crate):
    """Returns the files of a package by their paths in it."""
    (package,) = (ROOT / "target/package").glob(f"{crate}-[0-9]*.crate")
    with tarfile.open(package) as files:
        members = [member for member in files.getmembers() if member.isfile()]
        found = {member.name.split("/", 1)[1]: files.extractfile(member).read() for member in members}
    print(f"{package.name}: {len(found)} files, {package.stat().st_size / 1e6:.2f} MB", flush=True)
    return found


def missing(files):
    """Returns the files that sources include and that are not in the package."""
    for path, text in files.items():
        if not path.endswith(".rs"):
            continue
        # the unit tests of a file are at its end; their files are not needed by users
        code = text.decode().split("#[cfg(test)]\nmod tests {")[0]
        wanted = [os.path.normpath(f"{path}/../{name}") for name in INCLUDED.findall(code)]
        if path == PYTHON:
            wanted += [f"clients/python/src/pagewire/{name}" for name in re.findall(r'"([\w/]+\.py)"', code)]
        if path == GENROPY:
            wanted += [f"integrations/genropy/src/{name}" for name in re.findall(r'"(pagewire_genropy[^"]+/[^"]+)"', code)]
        yield from (f"{path} includes {name}" for name in wanted if name not in files)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", action="store_true", help="build each package by itself")
    options = parser.parse_args()
    for old in (ROOT / "target/package").glob("*.crate"):
        old.unlink()
    verify = [] if options.build else ["--no-verify"]
    # the tree may have changes that are not committed
    command = ["cargo", "package", "--locked", "--offline", "--allow-dirty", *verify]
    subprocess.run([*command, *(part for crate in CRATES for part in ("--package", crate))], cwd=ROOT, check=True)
    absent = [f"{crate}: {problem}" for crate in CRATES for problem in missing(texts(crate))]
    if absent:
        sys.exit("\n".join(["These files are not in `include` of Cargo.toml:", *absent]))


if __name__ == "__main__":
    main()
