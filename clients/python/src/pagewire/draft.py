"""A copy of a state tree that collects changes.

Owns: reading and changing a copy, and the list of changes. Never: the requests that read and write the tree (`state`).
"""

from __future__ import annotations

from typing import Any

from .paths import split
from .wire import encode, loads

_MISSING = object()


class Draft:
    """A tree in an `edit`: `draft["wizard.name"] = "Ada"`, `del draft["wizard"]`, `draft.get("count", 0)`.

    Lists and objects that it returns may be changed in place: the change is written with the others.
    """

    def __init__(self, value: Any, revision: int) -> None:
        self._tree: dict[str, Any] = value if isinstance(value, dict) else {}
        self._changes: list[dict[str, Any]] = []
        self._given: dict[str, tuple[Any, bytes]] = {}
        self.revision = revision
        """The revision of the tree that was read; after the edit, the one that was written."""

    def __getitem__(self, path: str) -> Any:
        value = self._find(path)
        if value is _MISSING:
            raise KeyError(path)
        if isinstance(value, (dict, list)):
            self._given.setdefault(path, (value, encode(value)))
        return value

    def get(self, path: str, default: Any = None) -> Any:
        """Returns the value at a path, or `default` if there is none."""
        try:
            return self[path]
        except KeyError:
            return default

    def __contains__(self, path: str) -> bool:
        return self._find(path) is not _MISSING

    def __setitem__(self, path: str, value: Any) -> None:
        keys = split(path)
        value = loads(encode(value))  # a copy, which a later change of the original does not reach
        self._keep_given()
        if not keys:
            if not isinstance(value, dict):
                raise ValueError("a whole tree is an object")
            self._tree = value
        else:
            branch = self._tree
            for key in keys[:-1]:
                below = branch.get(key)
                if not isinstance(below, dict):
                    below = branch[key] = {}
                branch = below
            branch[keys[-1]] = value
        self._changes.append({"path": path, "value": value})

    def __delitem__(self, path: str) -> None:
        if path not in self:
            raise KeyError(path)
        self._keep_given()
        keys = split(path)
        if keys:
            branch = self._tree
            for key in keys[:-1]:
                branch = branch[key]
            del branch[keys[-1]]
        else:
            self._tree = {}
        self._changes.append({"path": path, "delete": True})

    def changes(self) -> list[dict[str, Any]]:
        """Returns the changes in their order."""
        self._keep_given()
        return self._changes

    def _keep_given(self) -> None:
        """Records what was changed in place, and forgets the objects: the next change may replace them."""
        given, self._given = self._given, {}
        for path, (value, before) in given.items():
            if self._find(path) is value and encode(value) != before:
                self._changes.append({"path": path, "value": loads(encode(value))})

    def _find(self, path: str) -> Any:
        value: Any = self._tree
        for key in split(path):
            if not isinstance(value, dict) or key not in value:
                return _MISSING
            value = value[key]
        return value
