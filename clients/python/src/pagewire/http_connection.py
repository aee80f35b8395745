"""One connection to a server, as far as HTTP/1.1 is needed for JSON.

Owns: the bytes of requests and responses. Never: which connection is used again (`http_pool`), or the meaning of a
response.

The standard `http.client` takes most of the CPU time of a small request: it sends head and body apart, and parses the
head as a mail.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl

_LONGEST_HEAD = 1 << 16
_RECEIVED = 1 << 16
_VALUE = re.compile(r"[ -~]*")

_KERNEL_LIMITS = sys.platform == "linux"
"""Whether the kernel limits how long a read or write takes. The time-out of a socket object costs a `poll` before each
of them, for which the thread gives up the lock of the interpreter once more.
"""


class Reply(NamedTuple):
    """A response as it was received. The names of `headers` are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A connection that is open after `connect`, and as long as `sock` is not None."""

    def __init__(self, secure: bool, host: str, port: int | None, headers: dict[str, str], timeout: float) -> None:
        for name, value in headers.items():
            if not _VALUE.fullmatch(value):
                raise ValueError(f"the header {name} has letters that are not ASCII")
        self.sock: socket.socket | None = None
        self._secure = secure
        host = host if host.isascii() else host.encode("idna").decode("ascii")
        self._address = (host, port or (443 if secure else 80))
        name = f"[{host}]" if ":" in host else host
        all_headers = {"Host": name if port is None else f"{name}:{port}", "Accept-Encoding": "identity", **headers}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
        self._timeout = timeout
        self._limit: float | None = None  # of the open socket
        self._received = bytearray()

    def connect(self) -> None:
        """Opens the connection. Raises OSError."""
        sock = socket.create_connection(self._address, self._timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = _context().wrap_socket(sock, server_hostname=self._address[0]) if self._secure else sock
        except BaseException:
            sock.close()
            raise

    def _limit_to(self, sock: socket.socket, timeout: float) -> None:
        """Sets how long each read and write may take."""
        if timeout == self._limit:
            return
        if self._secure or not _KERNEL_LIMITS:
            sock.settimeout(timeout)
        else:
            sock.setblocking(True)
            # no time at all would mean no limit
            micros = max(1, int(timeout * 1_000_000))
            value = struct.pack("ll", micros // 1_000_000, micros % 1_000_000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        self._limit = timeout

    def close(self) -> None:
        sock, self.sock = self.sock, None
        self._limit = None
        if sock is not None:
            sock.close()

    def exchange(self, verb: str, target: str, body: bytes | None, timeout: float) -> Reply:
        """Sends a request and returns its response. Each read may take `timeout` seconds.

        Raises OSError if the connection is lost or the response is not HTTP; then it must be closed.
        """
        sock = self.sock
        if sock is None:
            raise ConnectionError("the connection is closed")
        try:
            self._limit_to(sock, timeout)
            return self._exchange(sock, verb, target, body)
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def _exchange(self, sock: socket.socket, verb: str, target: str, body: bytes | None) -> Reply:
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{verb} {target} HTTP/1.1\r\n{self._headers}{length}\r\n"
        sock.sendall(head.encode("ascii") + (body or b""))
        self._received.clear()
        status, version, headers = self._head(sock)
        while 100 <= status < 200:
            status, version, headers = self._head(sock)
        wishes = headers.get("connection", "").lower()
        is_kept = "close" not in wishes and (version == "HTTP/1.1" or "keep-alive" in wishes)
        if status in (204, 304):
            data = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            data = self._chunks(sock)
        elif "content-length" in headers:
            data = self._exactly(sock, _number(headers["content-length"], 10))
        else:
            is_kept = False
            data = self._rest(sock)
        if not is_kept or self._received:
            self.close()
        return Reply(status, headers, data)

    def _head(self, sock: socket.socket) -> tuple[int, str, dict[str, str]]:
        """Returns the status, the version and the headers of a response."""
        lines = self._until(sock, b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1."):
            raise ConnectionError("the response is not HTTP/1.1")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return _number(rest[:3], 10), version, headers

    def _chunks(self, sock: socket.socket) -> bytes:
        parts = []
        while length := _number(self._until(sock, b"\r\n").partition(b";")[0].decode("latin-1").strip(), 16):
            parts.append(self._exactly(sock, length))
            self._until(sock, b"\r\n")
        while self._until(sock, b"\r\n"):  # headers after the body
            pass
        return b"".join(parts)

    def _until(self, sock: socket.socket, end: bytes) -> bytes:
        """Takes what was received up to `end`, which is taken too."""
        received = self._received
        while (at := received.find(end)) < 0:
            if len(received) > _LONGEST_HEAD:
                raise ConnectionError("the head of the response is too long")
            self._receive(sock)
        taken = bytes(received[:at])
        del received[: at + len(end)]
        return taken

    def _exactly(self, sock: socket.socket, length: int) -> bytes:
        received = self._received
        while len(received) < length:
            self._receive(sock)
        taken = bytes(received[:length])
        del received[:length]
        return taken

    def _rest(self, sock: socket.socket) -> bytes:
        while data := sock.recv(_RECEIVED):
            self._received += data
        taken = bytes(self._received)
        self._received.clear()
        return taken

    def _receive(self, sock: socket.socket) -> None:
        data = sock.recv(_RECEIVED)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self._received += data


def _number(text: str, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise ConnectionError("the response is not HTTP/1.1")
    return number


@lru_cache
def _context() -> ssl.SSLContext:
    """Returns the context of all connections: it takes long to read the certificates of the system."""
    import ssl  # only for https

    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
