"""The import of what `module:attribute` names.

Owns: finding it, and the explanation when it is not there. Never: what it is used for.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Iterable, NoReturn

Hint = Callable[[str, object, "list[str]"], str]
"""Returns a hint for an attribute that a value does not have, of those that it has."""


def find(target: str, default: str, hint: Hint) -> tuple[Any, Any]:
    """Imports the module of `module:attribute`. `module` alone means `module:default`.

    Returns the module and the value of the attribute. Exits with 1 if the import fails, with its traceback, or if there
    is no such attribute.
    """
    name, _, attribute = target.partition(":")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        __import__(name)
    except Exception as error:
        explain(name, error)
    value: object = sys.modules[name]
    for part in (attribute or default).split("."):
        names = list(vars(value)) if hasattr(value, "__dict__") else []
        if not hasattr(value, part):
            sys.exit(f"pagewire: {target}: there is no `{part}`{hint(part, value, names)}{_elsewhere(name)}")
        value = getattr(value, part)
    return sys.modules[name], value


def _elsewhere(name: str) -> str:
    """Returns where a module is from, if it hides one of the same name in the working directory."""
    file = getattr(sys.modules[name], "__file__", None)
    own = os.path.join(os.getcwd(), *name.split("."))
    hides = os.path.exists(own + ".py") or os.path.isdir(own)
    return f" ({file} has the same name as your module)" if file and hides and not file.startswith(own) else ""


def nearest_name(part: str, names: Iterable[str]) -> str:
    """Returns a hint at the public name that resembles another one the most."""
    from .validate_class import nearest

    return nearest(part, [name for name in names if not name.startswith("__")])


def explain(name: str, error: Exception) -> NoReturn:
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
