"""Connections to a server that are kept open between requests.

Owns: which connection is used, time-outs and the errors of a lost connection. Never: the bytes of HTTP
(`http_connection`) or the meaning of a request (`http_api`).
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
from functools import partial
from json import loads
from typing import Any
from urllib.parse import urlsplit

from .errors import Error
from .http_api import Response, Route
from .http_connection import Connection
from .wire import encode

_KEPT = 32
_TARGET = re.compile(r"[!-~]+")


class NotConnected(Error):
    """There is no connection to the server: nothing was sent."""


class Pool:
    """The connections of a client. It may be used by several threads at once, and in a forked process."""

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the address of a server is http://host:port or https://host:port, not {url!r}")
        self._prefix = parts.path.rstrip("/") + "/api/v1"
        self._address = f"{parts.scheme}://{parts.netloc}"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._timeout = timeout
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._new = partial(Connection, parts.scheme == "https", parts.hostname, parts.port, headers, timeout)
        self._new()  # a key that cannot be sent is an error here

    def request(self, route: Route, at_most: float | None = None) -> Response:
        """Sends a request and returns the response. `at_most` are the seconds that its work may take.

        Raises Error if there is no connection or no response.
        """
        body = None if route.body is None else _encoded(route.body)
        target = self._prefix + route.path
        if not _TARGET.fullmatch(target):
            raise Error("malformed", f"{target!r} is not a path of a server")
        connection, used = self._take()
        if not used:
            try:
                connection.connect()
            except OSError as error:
                raise NotConnected("unavailable", f"no connection to {self._address}: {error}", True) from None
        try:
            return self._exchange(connection, route.verb, target, body, at_most)
        except TimeoutError:
            connection.close()
            raise Error("timeout", f"no response of {self._address} in time", True) from None
        except OSError as error:
            connection.close()
            if used and route.may_be_sent_again:  # the server has closed an idle connection
                return self.request(route, at_most)
            raise self._lost(error, route) from error

    def _exchange(
        self, connection: Connection, verb: str, target: str, body: bytes | None, at_most: float | None
    ) -> Response:
        timeout = self._timeout if at_most is None else max(self._timeout, at_most + 5)
        status, headers, data = connection.exchange(verb, target, body, timeout)
        tag = headers.get("etag", "").strip('"')
        if connection.sock is not None:
            self._keep(connection)
        return Response(status, _decoded(data), int(tag) if tag.isdigit() else None)

    def _lost(self, error: Exception, route: Route) -> Error:
        if not route.may_be_sent_again:
            text = f"the connection to {self._address} was lost: the request may have been executed ({error})"
            return Error("uncertain", text)
        return Error("unavailable", f"the connection to {self._address} was lost: {error}", True)

    def _take(self) -> tuple[Connection, bool]:
        """Returns a connection, and whether it has been used before."""
        if self._pid != os.getpid():
            self._forget()
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._new(), False
            # an idle connection that can be read has been closed by the server
            if connection.sock is not None and not _can_be_read(connection.sock):
                return connection, True
            connection.close()

    def _forget(self) -> None:
        """Closes the idle connections here, because they belong to the process that has forked this one."""
        inherited, self._idle = self._idle, []
        self._lock, self._pid = threading.Lock(), os.getpid()
        for connection in inherited:
            connection.close()

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Closes the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _can_be_read(sock: socket.socket) -> bool:
    """Returns whether a socket has data or was closed by the other side."""
    if not hasattr(select, "poll"):  # on Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()  # select refuses descriptors from 1024 on
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _encoded(body: Any) -> bytes:
    try:
        return encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise Error("malformed", f"the request is not JSON: {error}") from None


def _decoded(data: bytes) -> Any:
    try:
        return loads(data) if data else None
    except ValueError:
        return None
