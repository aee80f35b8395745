"""`python -m pagewire module:attribute`: imports an application and runs it.

Owns: finding the application. Never: running it (`app`).
"""

from __future__ import annotations

import os
import sys

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
    name, _, attribute = target.partition(":")
    attribute = attribute or "app"
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        __import__(name)
    except Exception as error:
        _explain(name, error)
    value: object = sys.modules[name]
    for part in attribute.split("."):
        names = list(vars(value)) if hasattr(value, "__dict__") else []
        if not hasattr(value, part):
            sys.exit(f"pagewire: {target}: there is no `{part}`{_nearest(part, value, names)}")
        value = getattr(value, part)
    if not isinstance(value, App):
        apps = [known for known, one in vars(sys.modules[name]).items() if isinstance(one, App)]
        hint = f": did you mean `{name}:{apps[0]}`?" if apps else ""
        sys.exit(f"pagewire: {target} is a {type(value).__name__}, no pagewire.App{hint}")
    return value


def _nearest(part: str, value: object, names: list[str]) -> str:
    from .validate_class import nearest

    apps = [name for name in names if isinstance(getattr(value, name, None), App)]
    if len(apps) == 1:
        return f": did you mean `{apps[0]}`?"
    return nearest(part, [name for name in names if not name.startswith("__")])


def _explain(name: str, error: Exception) -> None:
    """Prints why a module cannot be imported, from the first line of the module on, and exits with 1."""
    import traceback

    missing = isinstance(error, ModuleNotFoundError) and error.name and (name + ".").startswith(error.name + ".")
    if missing and _outside(error):
        near = _nearest_module(name)
        sys.exit(f"pagewire: there is no module `{name}` in {os.getcwd()}{near}")
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    while trace is not None and trace.tb_next is not None and "importlib" in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
    sys.exit(f"pagewire: the module `{name}` cannot be imported")


def _outside(error: Exception) -> bool:
    """Returns whether only the import system has raised an error: no line of a module is in its traceback."""
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    while trace is not None:
        if "importlib" not in trace.tb_frame.f_code.co_filename:
            return False
        trace = trace.tb_next
    return True


def _nearest_module(name: str) -> str:
    from .validate_class import nearest

    files = [os.path.splitext(file)[0] for file in os.listdir() if file.endswith(".py")]
    return nearest(name, files)


if __name__ == "__main__":
    main()
