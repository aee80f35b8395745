"""A program beside a web application: its requests in the name of the application go to the server API.

Owns: which requests are repeated, what a lost answer means, and waiting for a server that starts. Never: connections
(`http_pool`), or what is requested (`web`).

A task worker, a periodic command or a console has no child wire. Its requests have the same names, parameters and
values. Every thread waits for its own answer, and a forked process opens connections of its own.
"""

from __future__ import annotations

import logging
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable

from .errors import Error
from .http_api import Response, Route, value_of
from .http_pool import NotConnected, Pool
from .requests import Log
from .web import WebClient

if TYPE_CHECKING:
    from .wire import Message

URL = "PAGEWIRE_URL"
KEY = "PAGEWIRE_API_KEY"

_PATIENCE = 10.0
"""The seconds for which a request waits for a server that accepts no connection, because it starts."""

_READS = ("state.get", "job.get", "page.get", "page.list", "register.read", "register.list", "register.tables")
_REPEATABLE = frozenset((*_READS, "lock.renew", "lock.release", "register.subscribe"))
"""Requests that may be made a second time when their answer was lost."""

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


class Program:
    """The way of the requests of a program to a server."""

    welcome: Message = {}
    """A program has no lane and no release."""

    is_open = True
    """A request waits for a server that starts."""

    def __init__(self, url: str, api_key: str | None, timeout: float, patience: float) -> None:
        self._pool = Pool(url, api_key, timeout)
        self._patience = patience

    def ask(self, client: WebClient, method: str, params: Any) -> Any:
        """Makes a request and waits for its value.

        Raises Error with the code `uncertain` if the answer of a change was lost: it may have been made.
        """
        return _value(method, params, self._exchange(method, params, self._patience))

    # what locks use of a wire

    def link(self) -> Program:
        return self

    def now(self) -> float:
        return time.monotonic()

    def poll(self) -> None:
        """Does nothing: no answer arrives by itself."""

    def post(self, client: WebClient, method: str, params: Any, settle: Callable[[Message | None], Any]) -> None:
        """Makes a request, and calls `settle` with its reply before this returns."""
        try:
            reply = {"value": _value(method, params, self._exchange(method, params, 0.0))}
        except Error as error:
            reply = {"error": {"code": error.code, "message": error.message, "retryable": error.retryable}}
        settle(reply)

    def _exchange(self, method: str, params: Any, patience: float) -> Response:
        route = Route("POST", f"/requests/{method}", params, method in _REPEATABLE)
        until = time.monotonic() + patience
        pause = 0.05
        while True:
            try:
                return self._pool.request(route, _longest(method, params))
            except NotConnected:  # nothing was sent
                if time.monotonic() + pause > until:
                    raise
            except Error as error:
                if error.code == "timeout" and not route.is_repeatable:
                    raise Error("uncertain", f"{error.message}: the request may have been executed") from None
                raise
            time.sleep(pause)
            pause = min(pause * 2, 1.0)


def _longest(method: str, params: Any) -> float | None:
    """Returns for how many seconds a request may wait at the server, or None if it does not wait for others."""
    name = {"call": "timeout_ms", "lock.acquire": "wait_ms"}.get(method)
    limit = params.get(name) if name is not None else None
    return None if limit is None else float(limit) / 1000


def _value(method: str, params: Any, response: Response) -> Any:
    answer = value_of(f"requests/{method}", params, response)
    if not isinstance(answer, dict) or "value" not in answer:
        raise Error("internal", f"the answer to {method} is not one of Pagewire: is {URL} the address of a server?")
    return answer["value"]


class _ProgramLog(Log):
    """Lines of the log of this program: the server does not receive them."""

    __slots__ = ()

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        named = "".join(f" {name}={value!r}" for name, value in fields.items())
        logging.getLogger("pagewire").log(_LEVELS[level], "%s%s", message, named)


class ProgramClient(WebClient):
    """Pagewire in the name of the application, for a program that no mount has started. It is safe in threads.

    `lane` and `release` are empty, and `log` writes to the logger `pagewire` of this process.
    """

    __slots__ = ()

    @property
    def log(self) -> Log:
        """Lines of the log of this process."""
        return _ProgramLog(self)  # type: ignore[arg-type]


def connect(
    url: str = "http://127.0.0.1:8080",
    api_key: str | None = None,
    *,
    timeout: float = 30,
    patience: float = _PATIENCE,
) -> ProgramClient:
    """Returns Pagewire in the name of the application, over the server API at `url`. The key has the role `admin`.

    `timeout` is for how many seconds a request waits for its answer, beside what a call or a lock may take.
    `patience` is for how many it waits for a server that accepts no connection.
    """
    return ProgramClient(Program(url, api_key, timeout, patience))


def of_environment() -> ProgramClient | None:
    """Returns the client for `PAGEWIRE_URL` and `PAGEWIRE_API_KEY`, or None without the first one."""
    url = os.environ.get(URL)
    return _kept(url, os.environ.get(KEY)) if url else None


@lru_cache
def _kept(url: str, api_key: str | None) -> ProgramClient:
    return connect(url, api_key)
