"""Commands for every process of a site, for example that a cache is out of date.

Owns: their list in the global item, and how far this process has read it. Never: what a command does.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from .draft import Draft
from .keys import GLOBAL

if TYPE_CHECKING:
    from .core import Core

_KEPT = 100
_SECONDS = 600
"""How many commands are kept, and how long: a process that reads none for so long has missed some."""


class Commands:
    """The commands of one register. A process receives those that are sent after its start."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._read: int | None = None

    def pending(self) -> list[Any]:
        """Returns the commands that this process has not received yet, the oldest first."""
        known = self._core.working_set().get(GLOBAL)
        sent = (known.member("commands") if known is not None else None) or []
        read, self._read = self._read, max((number for number, *_ in sent), default=self._read or 0)
        if read is None:
            return []
        return [command for number, _, pid, command in sent if number > read and pid in (None, os.getpid())]

    def send(self, command: Any, pid: int | None) -> None:
        """Sends a command, or a list of commands, to all processes or to one."""
        if self._read is None:  # a process that has not asked yet receives its own command as well
            self.pending()
        added = command if isinstance(command, list) else [command]
        now = time.time()

        def write(draft: Draft) -> None:
            sent = [one for one in draft.member("commands") or [] if now - one[1] < _SECONDS]
            number = max((one[0] for one in draft.member("commands") or []), default=draft.member("command") or 0)
            sent += [(number + index, now, pid, one) for index, one in enumerate(added, 1)]
            draft.set_member("commands", sent[-_KEPT:])
            draft.set_member("command", number + len(added))

        self._core.working_set().edit(GLOBAL, write)
