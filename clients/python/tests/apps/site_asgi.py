"""An ASGI application whose answers show what it was given."""

import json
import os

started = []


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                started.append(1)
                await send({"type": "lifespan.startup.complete"})
            else:
                print("the application has ended", flush=True)
                await send({"type": "lifespan.shutdown.complete"})
                return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    shown = {name: scope.get(name) for name in ("type", "path", "root_path", "scheme", "client")}
    shown |= {"pid": os.getpid(), "started": len(started), "body": len(body)}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(shown).encode()})


async def without_lifespan(scope, receive, send):
    assert scope["type"] == "http"
    await app(scope, receive, send)


async def fails_to_start(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
