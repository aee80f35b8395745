"""The environment of a WSGI application behind Pagewire.

Owns: address, scheme, mount point and `pagewire.request` of a request. Never: what the application does with it.
"""

from __future__ import annotations

from typing import Any, Callable

from ..served import served
from ..web import WebRequest

KEY = "pagewire.request"
"""Where an application finds Pagewire. A variable of a server has a dot in its name."""


class MountedApplication:
    """A WSGI application that sees its client instead of Pagewire.

    The headers are those of Pagewire, which removes what a client sends under these names.
    """

    __slots__ = ("_application", "_below", "_script_name")

    def __init__(self, application: Callable[..., Any], script_name: str) -> None:
        self._application = application
        # the bytes of the path are letters of Latin-1 in an environment
        self._script_name = script_name.encode().decode("latin-1")
        self._below = self._script_name + "/"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        get = environ.get
        address = get("HTTP_X_FORWARDED_FOR")
        if address:
            environ["REMOTE_ADDR"] = address
            environ.pop("REMOTE_PORT", None)
        scheme = get("HTTP_X_FORWARDED_PROTO")
        if scheme == "https" or scheme == "http":
            environ["wsgi.url_scheme"] = scheme
        if environ["SERVER_NAME"].startswith("/"):  # of granian: the path of its socket
            environ["SERVER_NAME"], environ["SERVER_PORT"] = server_of(environ)
        name = self._script_name
        if name:
            path = environ["PATH_INFO"]
            if path == name or path.startswith(self._below):
                environ["SCRIPT_NAME"] = name
                environ["PATH_INFO"] = path[len(name) :]
        request = environ[KEY] = WebRequest(served, environ)
        return self._application(environ, request._answering(start_response))


def server_of(environ: dict[str, Any]) -> tuple[str, str]:
    """Returns the name and the port that the client has asked for."""
    host = environ.get("HTTP_HOST") or "localhost"
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return name, port
    return host, "443" if environ["wsgi.url_scheme"] == "https" else "80"
