"""What Genropy imports as `gnr.web.daemon.processes`.

Owns: these names. Never: processes: those that a site needs beside it are commands of Pagewire (docs/genropy.md).
"""

from __future__ import annotations

from typing import Any

from .errors import NoDaemon


class _OfDaemon:
    """Something that only gnrdaemon starts."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NoDaemon(type(self).__name__)


class GnrCronHandler(_OfDaemon):
    """The schedule of gnrdaemon."""


class GnrWorkerPool(_OfDaemon):
    """The workers of gnrdaemon."""


class GnrDaemonServiceManager(_OfDaemon):
    """The services of gnrdaemon."""
