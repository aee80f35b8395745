"""Connections to a server that are kept open between requests.

Owns: connections, time-outs and the errors of a lost connection. Never: the meaning of a request (`http_api`).
"""

from __future__ import annotations

import http.client
import select
import threading
from json import loads
from typing import Any, Callable
from urllib.parse import urlsplit

from .errors import Error
from .http_api import Response, Route
from .wire import encode

_KEPT = 32


class Pool:
    """The connections of a client. It may be used by several threads at once."""

    def __init__(self, url: str, api_key: str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"the address of a server is http://host:port or https://host:port, not {url!r}")
        self._prefix = parts.path.rstrip("/") + "/api/v1"
        self._address = f"{parts.scheme}://{parts.netloc}"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout = timeout
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        host, port = parts.hostname, parts.port
        self._connect: Callable[[], http.client.HTTPConnection] = lambda: kind(host, port, timeout=timeout)

    def request(self, route: Route, at_most: float | None = None) -> Response:
        """Sends a request and returns the response. `at_most` are the seconds that its work may take.

        Raises Error if there is no connection or no response.
        """
        body = None if route.body is None else _encoded(route.body)
        connection, used = self._take()
        if not used:
            try:
                connection.connect()
            except OSError as error:
                raise Error("unavailable", f"no connection to {self._address}: {error}", True) from None
        try:
            return self._exchange(connection, route, body, at_most)
        except TimeoutError:
            connection.close()
            raise Error("timeout", f"no response of {self._address} in time", True) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if used and route.verb != "POST":  # the server has closed an idle connection
                return self.request(route, at_most)
            raise self._lost(error, route) from error

    def _exchange(
        self, connection: http.client.HTTPConnection, route: Route, body: bytes | None, at_most: float | None
    ) -> Response:
        connection.sock.settimeout(self._timeout if at_most is None else max(self._timeout, at_most + 5))
        connection.request(route.verb, self._prefix + route.path, body, self._headers)
        answer = connection.getresponse()
        data = answer.read()
        tag = answer.headers.get("etag", "").strip('"')
        if answer.will_close:
            connection.close()
        else:
            self._keep(connection)
        return Response(answer.status, _decoded(data), int(tag) if tag.isdigit() else None)

    def _lost(self, error: Exception, route: Route) -> Error:
        if route.verb == "POST":
            text = f"the connection to {self._address} was lost: the request may have been executed ({error})"
            return Error("uncertain", text)
        return Error("unavailable", f"the connection to {self._address} was lost: {error}", True)

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        """Returns a connection, and whether it has been used before."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(), False
            # an idle connection that can be read has been closed by the server
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                return connection, True
            connection.close()

    def _keep(self, connection: http.client.HTTPConnection) -> None:
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
