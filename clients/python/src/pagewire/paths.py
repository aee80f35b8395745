"""Paths of state trees, as `wizard.form.name`.

Owns: from a path to keys and back. Never: positions (`#2`), which only the server resolves.
"""

from __future__ import annotations

from typing import Iterable


def split(path: str) -> list[str]:
    """Returns the keys of a path.

    Raises ValueError if it is no path, or if it has a position.
    """
    if not path:
        return []
    keys: list[str] = []
    key: list[str] = []
    letters = iter(path)
    first = True
    for letter in letters:
        if letter == "\\":
            escaped = next(letters, None)
            if escaped is None:
                raise ValueError(f"the path {path!r} ends with a backslash")
            key.append(escaped)
        elif letter == ".":
            keys.append("".join(key))
            key, first = [], True
            continue
        elif letter == "#" and first:
            raise ValueError(f"the path {path!r} has a position: only keys are possible here")
        else:
            key.append(letter)
        first = False
    keys.append("".join(key))
    if not all(keys):
        raise ValueError(f"the path {path!r} has an empty key")
    return keys


def join(keys: Iterable[str]) -> str:
    """Returns the path of keys."""
    return ".".join(_escaped(key) for key in keys)


def _escaped(key: str) -> str:
    key = key.replace("\\", "\\\\").replace(".", "\\.")
    return "\\" + key if key.startswith("#") else key
