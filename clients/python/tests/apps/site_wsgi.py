"""A WSGI application whose answers show what it was given."""

import json
import os
import signal
import sys
import threading
import time
from wsgiref.validate import validator

PLAIN = [("Content-Type", "text/plain")]


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/environ":
        shown = {name: value for name, value in environ.items() if isinstance(value, str)}
        body = json.dumps(shown | {"pid": os.getpid(), "url_scheme": environ["wsgi.url_scheme"]}).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]
    if path == "/stream":
        start_response("200 OK", PLAIN)
        return stream(environ["QUERY_STRING"])
    if path == "/upload":
        size = 0
        while part := environ["wsgi.input"].read(65536):
            size += len(part)
        start_response("200 OK", PLAIN)
        return [str(size).encode()]
    start_response("404 Not Found", PLAIN)
    return [b"nothing here"]


def path(environ, start_response):
    """Shows where modules are found."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(sys.path).encode()]


def stream(gate):
    """Yields one part at once, and the second when a file is there."""
    yield b"first"
    while not os.path.exists(gate):
        time.sleep(0.01)
    yield b"second"


valid = validator(application)


def create():
    return application


def deaf():
    """Makes the application in a process whose main thread does not receive SIGTERM: another thread does."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    return application


not_callable = 5
