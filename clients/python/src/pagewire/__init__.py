"""Python handlers for Pagewire: an application registers functions and classes, and pages and programs call them.

Owns: the public names. Never: code that runs; the clients are imported when they are used first, so that a child starts
fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .app import App
from .context import AsyncContext, Context
from .errors import Cancelled, Conflict, Error, Fail, NoObject, Retry
from .page import Page, rpc

if TYPE_CHECKING:
    from .client import AsyncClient, Client
    from .program import ProgramClient, connect
    from .web import OpenPage, WebClient, WebRequest, current

__all__ = [
    "App",
    "AsyncClient",
    "AsyncContext",
    "Cancelled",
    "Client",
    "Conflict",
    "Context",
    "Error",
    "Fail",
    "NoObject",
    "OpenPage",
    "Page",
    "ProgramClient",
    "Retry",
    "WebClient",
    "WebRequest",
    "__version__",
    "connect",
    "current",
    "rpc",
]


def __getattr__(name: str) -> Any:
    if name in ("Client", "AsyncClient"):
        from . import client

        return getattr(client, name)
    if name in ("ProgramClient", "connect"):
        from . import program

        return getattr(program, name)
    if name in ("OpenPage", "WebClient", "WebRequest", "current"):
        from . import web

        return getattr(web, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
