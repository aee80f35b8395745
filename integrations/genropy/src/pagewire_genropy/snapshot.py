"""An item of the register as it was read: never changed, shared by the threads of the process.

Owns: the parts of an item's data, and reading them once. Never: a change (`draft`), requests (`working_set`).

Data has one entry for each top-level branch of the Bag (`b.<label>`), so that a change of one branch does not send the
others, and one for each member that Genropy keeps beside the Bag (`m.<name>`, and `q.<number>` for a queued change).
"""

from __future__ import annotations

from typing import Any, Iterator

from gnr.core.gnrbag import Bag

from . import codec
from .keys import Key

Node = tuple[int, Any, "dict[str, Any]"]
"""The position of a top-level node, its value and its attributes."""

BRANCH = "b."
MEMBER = "m."


class Snapshot:
    """An item at a revision."""

    __slots__ = ("_bag", "_read", "data", "fields", "key", "revision")

    def __init__(self, key: Key, revision: int, fields: dict[str, Any], data: dict[str, str]) -> None:
        self.key = key
        self.revision = revision
        self.fields = fields
        self.data = data
        self._read: dict[str, Any] = {}
        self._bag: Any = None

    def keep_read(self, older: Snapshot | None) -> None:
        """Takes over what an older snapshot has read of entries that are the same."""
        if older is not None:
            mine = self.data
            self._read = {name: value for name, value in older._read.items() if mine.get(name) == older.data[name]}

    @property
    def size(self) -> int:
        """The length of the data in bytes."""
        return sum(map(len, self.data.values()))

    @property
    def bag(self) -> Any:
        """The data as a Bag. It must not be changed, and what it holds must be copied."""
        bag = self._bag
        if bag is None:
            bag = self._bag = _assemble(self.names(BRANCH), self._value)
        return bag

    def new_bag(self) -> Any:
        """Returns the data as a Bag of the caller."""
        return _assemble(self.names(BRANCH), self.fresh)

    def names(self, prefix: str) -> Iterator[str]:
        """Returns the names of entries of one kind."""
        return (name for name in self.data if name.startswith(prefix))

    def nodes(self, name: str) -> list[Node]:
        """Returns the nodes of a branch."""
        return self._value(name)  # type: ignore[no-any-return]

    def member(self, name: str) -> Any:
        """Returns a value that must not be changed, or None."""
        full = name if name.startswith("q.") else MEMBER + name
        return self._value(full) if full in self.data else None

    def fresh(self, name: str) -> Any:
        """Returns the value of an entry as a new one."""
        return codec.load(self.data[name])

    def _value(self, name: str) -> Any:
        found = self._read.get(name)
        if found is None:
            found = self._read[name] = codec.load(self.data[name])
        return found


def branches(data: Any) -> dict[str, str]:
    """Returns the entries of a Bag, one for each label of its top level."""
    found: dict[str, list[Node]] = {}
    own = codec.copied(data)
    if own is not None:
        # with the way back to its parent a branch would be stored with all others, and tell its changes to nobody
        own.clearBackRef()
    for number, node in enumerate(own or ()):
        value = node.resolver or node.getValue("static")
        found.setdefault(BRANCH + node.label, []).append((number, value, dict(node.attr)))
    return {name: codec.dump(nodes) for name, nodes in found.items()}


def _assemble(names: Iterator[str], read: Any) -> Any:
    nodes = [(position, name, value, attributes) for name in names for position, value, attributes in read(name)]
    nodes.sort(key=lambda node: node[:2])
    bag = Bag()
    for _, name, value, attributes in nodes:
        bag.appendNode(name[len(BRANCH) :], value, _attributes=attributes)
    return bag
