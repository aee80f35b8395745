"""Children that serve HTTP, as tests ask them.

Owns: the requests of HTTP on the private socket of a child. Never: its child wire (`supervisor`).
"""

import http.client
import json
import socket

from supervisor import PATIENCE

WSGI = ["gunicorn", "granian"]
ASGI = ["granian", "uvicorn"]


class UnixConnection(http.client.HTTPConnection):
    """A client of HTTP on a Unix socket."""

    def __init__(self, path):
        super().__init__("site.example", timeout=PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


class Site:
    """A child that serves HTTP."""

    def __init__(self, child, path):
        self.child = child
        self.path = path

    def connect(self):
        return UnixConnection(self.path)

    def get(self, path, **headers):
        connection = self.connect()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=named)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    def cookies(self, path, **headers):
        """Returns the cookies that an answer sets."""
        connection = self.connect()
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.headers.get_all("Set-Cookie")

    def shown(self, path, **headers):
        status, body = self.get(path, **headers)
        assert status == 200, body
        return json.loads(body)
