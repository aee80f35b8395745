"""What Genropy imports as `gnr.web.daemon.handler`.

Owns: these names. Never: a daemon.
"""

from __future__ import annotations

from typing import Any

from .errors import NoDaemon


class GnrDaemon:
    """The daemon itself. It cannot be started."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NoDaemon("GnrDaemon")


class GnrDaemonProxy:
    """A client of the daemon. It has nothing to connect to."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NoDaemon("GnrDaemonProxy")
