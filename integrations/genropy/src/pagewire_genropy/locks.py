"""The locks of stores: a lease of Pagewire for each, counted in the thread that holds it.

Owns: acquiring and releasing, and the section of a thread between both. Never: what is written at its end
(`working_set`).
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

from pagewire.errors import Error

from .errors import GnrDaemonLocked
from .keys import Key

if TYPE_CHECKING:
    from .channel import Channel
    from .draft import Draft, Operation

LEASE_MS = 10_000
"""How long a lock is held at most, and how long a thread waits for one, if nothing else is said (`Locks.wait_ms`)."""

_LONGEST_NAME = 120


class Section:
    """What a thread does while it holds the lock of an item. Its changes are written at the end."""

    __slots__ = ("count", "draft", "operations", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.count = 1
        self.draft: Draft | None = None
        self.operations: list[Operation] = []


class Locks:
    """The locks that the threads of this process hold."""

    def __init__(self, channel: Channel, register: str) -> None:
        self._channel = channel
        self._register = register
        self._held = threading.local()
        self.wait_ms = LEASE_MS

    def section(self, key: Key) -> Section | None:
        """Returns the section of this thread, or None if it does not hold the lock."""
        return self._sections().get(key)

    def enter(self, key: Key) -> bool:
        """Acquires the lock. Returns whether it was acquired now: this thread may have held it before.

        Raises GnrDaemonLocked if another holder has it for so long.
        """
        section = self._sections().get(key)
        if section is not None:
            section.count += 1
            return False
        params = {"name": self._name(key), "ttl_ms": LEASE_MS, "wait_ms": self.wait_ms}
        try:
            token = self._channel.ask("lock.acquire", params)["token"]
        except Error as error:
            if error.code == "locked":
                raise GnrDaemonLocked(f"the {key.level} store {key.id} is locked: {error.message}") from error
            raise
        self._sections()[key] = Section(token)
        return True

    def leave(self, key: Key) -> Section | None:
        """Counts down. Returns the section if it ends; the caller releases it then."""
        section = self._sections().get(key)
        if section is None:
            return None
        section.count -= 1
        return section if section.count == 0 else None

    def detach(self, key: Key) -> None:
        """Makes changes of this thread be written at once, while it still holds the lock."""
        self._sections().pop(key, None)

    def release(self, key: Key, section: Section) -> None:
        """Releases the lock of a section that has ended. Nothing depends on the answer: the lease would end as well."""
        self._sections().pop(key, None)
        self._channel.tell("lock.release", {"name": self._name(key), "token": section.token})

    def _sections(self) -> dict[Key, Section]:
        held: Any = self._held
        try:
            return held.sections  # type: ignore[no-any-return]
        except AttributeError:
            held.sections = {}
            return held.sections  # type: ignore[no-any-return]

    def _name(self, key: Key) -> str:
        name = f"register.{self._register}.{key.level}.{key.id}"
        if len(name.encode()) <= _LONGEST_NAME:
            return name
        return f"register.{self._register}.{key.level}.{hashlib.sha256(key.id.encode()).hexdigest()}"
