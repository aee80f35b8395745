"""State trees and locks of a harness.

Owns: trees with revisions, and locks with tokens. Never: time; the harness passes it.
"""

from __future__ import annotations

import copy
from typing import Any

from ..draft import Draft
from ..errors import Conflict, Error


class Store:
    """The state trees, by level and id."""

    def __init__(self) -> None:
        self._trees: dict[tuple[str, str], dict[str, Any]] = {}
        self._revisions: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}

    def tree(self, level: str, id: str) -> dict[str, Any]:
        return self._trees.setdefault((level, id), {})

    def answer(self, work: dict[str, Any], method: str, params: dict[str, Any]) -> Any:
        """Returns the value of `state.get` or `state.patch` in the name of a piece of work."""
        level = params["level"]
        id = params.get("id", work.get(level))
        if id is None:
            raise Error("unknown", f"this work has no {level}")
        key = (level, id)
        if method == "state.get":
            return self._read(key, params.get("path", ""))
        return {"revision": self._patch(key, params["changes"], params.get("if_revision"))}

    def _revision(self, key: tuple[str, str]) -> int:
        """Returns the revision of a tree. A tree that the test has changed has a new one."""
        known, before = self._revisions.get(key, (0, {}))
        tree = self.tree(*key)
        if tree != before:
            known += 1
            self._revisions[key] = (known, copy.deepcopy(tree))
        return known

    def _read(self, key: tuple[str, str], path: str) -> dict[str, Any]:
        revision = self._revision(key)
        draft = Draft(copy.deepcopy(self.tree(*key)), revision)
        try:
            return {"value": draft[path], "revision": revision} if path in draft else {"revision": revision}
        except ValueError as error:
            raise Error("malformed", str(error)) from None

    def _patch(self, key: tuple[str, str], changes: list[dict[str, Any]], if_revision: int | None) -> int:
        revision = self._revision(key)
        if if_revision is not None and if_revision != revision:
            raise Conflict(f"the tree is at revision {revision}")
        draft = Draft(copy.deepcopy(self.tree(*key)), revision)
        try:
            for change in changes:
                if not change.get("delete"):
                    draft[change["path"]] = change["value"]
                elif change["path"] in draft:
                    del draft[change["path"]]
        except ValueError as error:
            raise Error("malformed", str(error)) from None
        tree = self.tree(*key)
        changed = draft[""]
        tree.clear()
        tree.update(changed)
        return self._revision(key)


class Locks:
    """The locks, by name: the token of the holder and the end of its lease."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, float]] = {}
        self._last = 0

    def answer(self, method: str, params: dict[str, Any], now: float) -> Any:
        """Returns the value of `lock.acquire`, `lock.renew` or `lock.release` at a time."""
        name = params["name"]
        token, end = self._held.get(name, (0, 0.0))
        if method == "lock.acquire":
            if end > now:
                raise Error("locked", f"another one holds the lock {name}", True)
            self._last += 1
            self._held[name] = (self._last, now + params["ttl_ms"] / 1000)
            return {"token": self._last, "ttl_ms": params["ttl_ms"]}
        if token != params["token"] or end <= now:
            raise Error("stale", f"the lock {name} is not held with this token")
        if method == "lock.release":
            del self._held[name]
            return {}
        self._held[name] = (token, now + params["ttl_ms"] / 1000)
        return {"ttl_ms": params["ttl_ms"]}
