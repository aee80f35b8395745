"""What Genropy imports as `gnr.web.daemon.service`, for the command `gnr web daemon`.

Owns: the answer of that command. Never: a daemon.
"""

from __future__ import annotations

import sys
from typing import Any


class DaemonService:
    """The command `gnr web daemon`, where Pagewire keeps the register."""

    def __init__(self, options: Any, command: str | None = None, sitename: str | None = None) -> None:
        self.command = command

    def run(self) -> None:
        """Exits with 1 and the reason."""
        sys.exit("gnr web daemon: Pagewire keeps the register of this site (pagewire_genropy is in PYTHONPATH)")
