"""What Genropy imports as `gnr.web.daemon.siteregister`.

Owns: these names. Never: a server, because Pagewire is the server.
"""

from __future__ import annotations

from typing import Any

from .errors import GnrDaemonException, GnrDaemonLocked, NoDaemon
from .lifecycle import DEFAULT_PAGE_MAX_AGE
from .register import SiteRegister

__all__ = [
    "DEFAULT_PAGE_MAX_AGE",
    "PYRO_HMAC_KEY",
    "PYRO_HOST",
    "PYRO_PORT",
    "GnrDaemonException",
    "GnrDaemonLocked",
    "GnrSiteRegisterServer",
    "SiteRegister",
]

PYRO_HOST = "localhost"
PYRO_PORT = 40004
PYRO_HMAC_KEY = ""


class GnrSiteRegisterServer:
    """The process of a register with gnrdaemon. It cannot be started."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NoDaemon("GnrSiteRegisterServer")
