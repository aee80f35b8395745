"""The start of a program that Pagewire has not started: it starts `pagewire dev`.

Owns: where the program `pagewire` is, and how the application is named on its command line. Never: a child.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .app import App

HELP = """pagewire: no program `pagewire` is beside this Python or in PATH, and this process was not started by it.

Start the handlers in one of these ways:
    pagewire dev {target}
    a pool in pagewire.toml:    [[pool]]
                                name = "default"
                                command = ["python", "-m", "pagewire", "{target}"]
"""


def start(app: App, target: str | None = None) -> None:
    """Replaces this process by `pagewire dev module:app`, or exits with the ways to start."""
    target = target or target_of(app)
    program = find_program()
    if program is None:
        sys.exit(HELP.format(target=target).rstrip())
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file and getattr(main, "__spec__", None) is None:
        os.chdir(os.path.dirname(os.path.abspath(file)))  # where its module can be imported
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(program, [program, "dev", target])


def find_program() -> str | None:
    """Returns the path of the program `pagewire`: that of PAGEWIRE_BINARY, of the wheel, or in PATH."""
    named = os.environ.get("PAGEWIRE_BINARY")
    return named or shutil.which("pagewire", path=sysconfig.get_path("scripts")) or shutil.which("pagewire")


def target_of(app: App) -> str:
    """Returns `module:attribute` of an application that a script or module has created."""
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app:
                return f"{_importable(name)}:{attribute}"
    return "app:app"


def _importable(name: str) -> str:
    """Returns the name under which another process imports a module."""
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return os.path.splitext(os.path.basename(getattr(main, "__file__", None) or "app.py"))[0]
