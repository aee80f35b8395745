"""An application of which the tests write two releases, each into a folder of its own."""

import json
import os
import sys
import time

RELEASE = "written by the test"

if os.path.exists("broken"):
    raise SystemExit("this release is broken")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream(environ["QUERY_STRING"])
    size = len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    shown = {
        "size": size,
        "release": RELEASE,
        "pid": os.getpid(),
        "feature": os.environ.get("FEATURE"),
        "common": os.environ.get("COMMON"),
        "prefix": sys.prefix,
    }
    status = "500 Internal Server Error" if path == "/fail" else "200 OK"
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]


def stream(gate):
    """Yields the release twice, the second time when a file is there."""
    yield RELEASE.encode()
    while not os.path.exists(gate):
        time.sleep(0.01)
    yield b" " + RELEASE.encode()


async def app(scope, receive, send):
    """Answers each message of a WebSocket with the release."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": RELEASE})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": RELEASE.encode()})
