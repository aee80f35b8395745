"""The way from this process to Pagewire.

Owns: finding it, and the explanation when there is none. Never: the meaning of a request.
"""

from __future__ import annotations

from typing import Any, Protocol

from pagewire.errors import Error

from .errors import NotBelowPagewire


class Channel(Protocol):
    """Sends requests of the child wire in the name of the application, from any thread."""

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Sends a request and waits for its value. Raises `pagewire.Error` if it is refused."""

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Sends a request without waiting for its answer."""

    def is_open(self) -> bool:
        """Returns whether requests can be made: not while the application is imported, or in a forked process."""


class _Application:
    """The requests of a process that serves a mount, or of a program beside it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        return self._client._ask(method, params)

    def tell(self, method: str, params: dict[str, Any]) -> None:
        self._client._link.post(self._client, method, params, lambda reply: None)

    def is_open(self) -> bool:
        return bool(self._client._way.is_open)


def connect() -> Channel:
    """Returns the way to Pagewire: the child wire of a mount, or for a program beside it, such as `gnr web taskworker`,
    the server that `PAGEWIRE_URL` names.

    Raises NotBelowPagewire without both.
    """
    from pagewire import web

    try:
        return _Application(web.current())
    except Error as error:
        raise NotBelowPagewire(f"This process has no way to Pagewire ({error.message})") from error
