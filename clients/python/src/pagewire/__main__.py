"""`python -m pagewire module:attribute`: imports an application and runs it.

Owns: which value of a module is an application. Never: the import (`importing`), or running it (`app`).
"""

from __future__ import annotations

import os
import sys

from . import importing
from .app import App


def main() -> None:
    """Runs the application that the command line names."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m pagewire module:attribute")
    target = sys.argv[1]
    app = find(target)
    if app.has_run:  # the module itself runs its application, and it has ended
        return
    if "PAGEWIRE_SOCKET" in os.environ:
        app.run()
    else:
        from .alone import start

        start(app, target)


def find(target: str) -> App:
    """Imports the module of `module:attribute` and returns its application. `module` alone means `module:app`.

    Exits with 1 if the import fails, with its traceback, or if the module has no such application.
    """
    module, value = importing.find(target, "app", _nearest)
    if not isinstance(value, App):
        apps = [known for known, one in vars(module).items() if isinstance(one, App)]
        hint = f": did you mean `{module.__name__}:{apps[0]}`?" if apps else ""
        sys.exit(f"pagewire: {target} is a {type(value).__name__}, no pagewire.App{hint}")
    return value


def _nearest(part: str, value: object, names: list[str]) -> str:
    apps = [name for name in names if isinstance(getattr(value, name, None), App)]
    if len(apps) == 1:
        return f": did you mean `{apps[0]}`?"
    return importing.nearest_name(part, names)


if __name__ == "__main__":
    main()
