"""A change of an item: a copy of its data that operations change, and the write that follows from it.

Owns: which entries have changed, and what else a change of the data causes. Never: requests (`working_set`).

What Genropy does at each change of a store is done here: a path that is subscribed is queued for the page, and a value
that caches a table is registered.
"""

from __future__ import annotations

from typing import Any, Callable

from . import codec
from .keys import Key
from .snapshot import BRANCH, MEMBER, Node, Snapshot

Operation = Callable[["Draft"], Any]

_NOTIFYING = frozenset({"setItem", "__setitem__", "addItem", "pop", "popNode", "delItem", "__delitem__"})
"""Methods of a Bag whose every change is notified. After others, all branches are compared."""


class Draft:
    """An item while it is changed. `base` is the snapshot that it began with."""

    def __init__(self, base: Snapshot) -> None:
        self.base = base
        self.fields: dict[str, Any] = {}
        self.raised: dict[str, float] = {}
        self.notices: list[tuple[str, Any, dict[str, Any]]] = []
        self.caching: set[str] = set()
        self._bag: Any = None
        self._members: dict[str, Any] = {}
        self._touched: set[str] = set()
        self._compare = False

    @property
    def key(self) -> Key:
        return self.base.key

    # the Bag

    @property
    def bag(self) -> Any:
        """The data, as a Bag that may be changed."""
        if self._bag is None:
            self._bag = self.base.new_bag()
            self._bag.subscribe("pagewire", any=self._noticed)
        return self._bag

    def apply(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a method of the Bag."""
        value = getattr(self.bag, method)(*args, **kwargs)
        if method not in _NOTIFYING:
            self._compare = True
        return value

    def apply_below(self, path: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a method of a Bag inside the data."""
        branch = self.bag.getItem(path)
        if branch is None:
            return None
        self._compare = True
        return getattr(branch, method)(*args, **kwargs)

    def read(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a method of the Bag that changes nothing."""
        bag = self.base.bag if self._bag is None else self._bag
        return getattr(bag, method)(*args, **kwargs)

    def _noticed(self, node: Any = None, evt: str = "", pathlist: list[str] | None = None, **_: Any) -> None:
        path = list(pathlist or ())
        if isinstance(node, list):  # of `clear`
            self._compare = True
            return
        if evt == "ins":
            path.append(node.label)
        self._touched.add(path[0] if path else node.label)
        text = ".".join(path)
        if evt != "del" and node.attr.get("_caching_table"):
            self._cache(node.attr["_caching_table"], text)
        if any(text.startswith(prefix) for prefix in self.member("subscribed_paths") or ()):
            self.notices.append((text, node.value, node.attr))

    def _cache(self, table: str, path: str) -> None:
        cached: dict[str, list[str]] = dict(self.member("cached") or {})
        if path not in cached.get(table, ()):
            cached[table] = [*cached.get(table, ()), path]
            self.set_cached(cached)
        self.caching.add(table)

    def set_cached(self, cached: dict[str, list[str]]) -> None:
        """Replaces the paths that cache tables. A field names the tables, so that the register finds the item."""
        self.set_member("cached", cached or None)
        self.fields["cached"] = f",{','.join(sorted(cached))}," if cached else None

    # members beside the Bag

    def member(self, name: str) -> Any:
        """Returns a member, which must not be changed, or None."""
        if name in self._members:
            return self._members[name]
        return self.base.member(name)

    def set_member(self, name: str, value: Any) -> None:
        """Replaces a member. None removes it."""
        self._members[name] = value

    def queue_names(self) -> list[str]:
        """Returns the names of the queued changes, the oldest first."""
        names = [name for name in self.base.names("q.") if self._members.get(name, "") is not None]
        names += [name for name in self._members if name.startswith("q.") and name not in self.base.data]
        return sorted((name for name in names if self.member(name) is not None), key=lambda name: int(name[2:]))

    # the write

    def op(self) -> dict[str, Any] | None:
        """Returns the operation of `register.write` for what has changed, or None if nothing has."""
        changed, removed = self._entries()
        op: dict[str, Any] = {}
        fields = {name: value for name, value in self.fields.items() if self.base.fields.get(name) != value}
        if fields:
            op["fields"] = fields
        if changed:
            op["data"] = changed
        if removed:
            op["unset"] = removed
        if self.raised:
            op["keep_max"] = self.raised
        return {**self.key.wire(), **op} if op else None

    def _entries(self) -> tuple[dict[str, str], list[str]]:
        old = self.base.data
        new: dict[str, str | None] = self._branches()
        for name, value in self._members.items():
            full = name if name.startswith("q.") else MEMBER + name
            new[full] = None if value is None else codec.dump(value)
        changed = {name: text for name, text in new.items() if text is not None and old.get(name) != text}
        return changed, [name for name, text in new.items() if text is None and name in old]

    def _branches(self) -> dict[str, str | None]:
        if self._bag is None:
            return {}
        old = set(self.base.names(BRANCH))
        labels = {BRANCH + node.label for node in self._bag}
        names = old | labels if self._compare else {BRANCH + label for label in self._touched}
        positions = {name: self.base.nodes(name)[0][0] for name in old}
        end = max(positions.values(), default=-1) + 1
        found: dict[str, list[Node]] = {}
        for number, node in enumerate(self._bag):
            name = BRANCH + node.label
            if name in names:
                value = node.resolver or node.getValue("static")
                if hasattr(value, "clearBackRef"):
                    value.clearBackRef()
                found.setdefault(name, []).append((positions.get(name, end + number), value, dict(node.attr)))
        return {name: codec.dump(found[name]) if name in found else None for name in names}


def written(draft: Draft, op: dict[str, Any], revision: int) -> Snapshot:
    """Returns the item after its write, which was made at the revision of its base."""
    base = draft.base
    fields = {**base.fields, **op.get("fields", {})}
    for name, value in op.get("keep_max", {}).items():
        fields[name] = max(value, fields.get(name, value))
    fields = {name: value for name, value in fields.items() if value is not None}
    gone = op.get("unset", ())
    data = {name: text for name, text in base.data.items() if name not in gone}
    data.update(op.get("data", {}))
    snapshot = Snapshot(base.key, revision, fields, data)
    snapshot.keep_read(base)
    return snapshot
