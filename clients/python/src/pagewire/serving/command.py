"""The start of a process that serves HTTP: its command line, its environment, and its application.

Owns: what the process is told, and the explanation when it cannot start. Never: a server.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import sysconfig
from typing import Any, NamedTuple, NoReturn

from .. import importing
from ..app import App
from ..runtime import buffer_lines
from ..served import served

VARIABLES = ("PAGEWIRE_SOCKET", "PAGEWIRE_TOKEN", "PAGEWIRE_HTTP_SOCKET")

_places = [sys.prefix]
"""The virtualenvs in which a server is looked for."""


class Start(NamedTuple):
    """What the supervisor has told a process. A server may pass it to another process, so it holds plain values."""

    target: str
    default: str
    threads: int
    server: str
    wire: str
    token: str
    http: str
    script_name: str
    app: str = ""
    """The application whose handlers and pages the process runs as well."""

    def application(self) -> Any:
        """Imports the application. Exits with 1 and the reason if this fails."""
        App.is_served = bool(self.app)
        served.expect()
        target = self.target.removesuffix("()")
        _, value = importing.find(target, self.default, lambda part, _, names: importing.nearest_name(part, names))
        if target != self.target:  # a factory
            value = value()
        if not callable(value):
            sys.exit(f"pagewire: {self.target} is a {type(value).__name__}, which cannot be called")
        return value


def start(kind: str, default: str, servers: tuple[str, ...]) -> Start:
    """Reads the command line and the environment. `servers` are the possible ones, the first is the default."""
    parser = argparse.ArgumentParser(prog=f"python -m pagewire.{kind}", allow_abbrev=False)
    parser.add_argument("target", metavar="MODULE:CALLABLE", help=f"the application; without CALLABLE `{default}`")
    parser.add_argument("--server", choices=servers, help=f"the server, {servers[0]} by default")
    parser.add_argument("--threads", type=int, default=8, help="requests at a time")
    parser.add_argument("--app", default="", metavar="MODULE:APP", help="handlers and pages to run in this process")
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads is a number from 1, not {options.threads}")
    buffer_lines()
    # removed, so that programs that the application starts are not taken for this child
    wire, token, http = (os.environ.pop(name, "") for name in VARIABLES)
    script_name = os.environ.pop("PAGEWIRE_SCRIPT_NAME", "").rstrip("/")
    server_venv = os.environ.pop("PAGEWIRE_SERVER_VENV", "")
    if not (wire and token and http):
        sys.exit(f"pagewire: python -m pagewire.{kind} is started by a mount of Pagewire: see docs/mounts.md")
    if server_venv:
        add_packages(server_venv)
    server = options.server or ""
    return Start(options.target, default, options.threads, server, wire, token, http, script_name, options.app)


def add_packages(venv: str) -> None:
    """Makes the packages of another virtualenv importable, behind all modules of the application.

    So its own versions are used. Exits with 1 if the folder is not a virtualenv of this version of Python.
    """
    base = {"base": venv, "platbase": venv}
    folders = dict.fromkeys(sysconfig.get_path(name, "posix_prefix", base) for name in ("purelib", "platlib"))
    found = [folder for folder in folders if os.path.isdir(folder)]
    if not found:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        missing = f"server_venv has no folder {next(iter(folders))}"
        sys.exit(f"pagewire: {missing}: it has to be a virtualenv of Python {version}, as {sys.executable} is")
    sys.path.extend(found)
    _places.append(venv)


def has(module: str) -> bool:
    """Returns whether a package is installed, without importing it."""
    from importlib.util import find_spec

    return find_spec(module) is not None


def load(module: str) -> Any:
    """Imports a module of a server. Exits with 1 if its package is not installed."""
    package = module.partition(".")[0]
    if not has(package):
        missing(package)
    return importlib.import_module(module)


def missing(*packages: str) -> NoReturn:
    """Exits with 1, because none of these packages is installed."""
    names, places = " or ".join(packages), " or ".join(_places)
    pip = f"{sys.executable} -m pip install {packages[0]}"
    other = "" if len(_places) > 1 else ", or set server_venv of the mount to a virtualenv that has it"
    sys.exit(f"pagewire: {names} is not installed in {places}: {pip}{other}")
