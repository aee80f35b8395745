"""The web site of the board: its page, and a login that issues a token (JWT, HS256) with the standard library.

Usage: python site.py [PORT]. It reads the secret that the node has, too: PAGEWIRE_AUTH__HS256_SECRET. The address of
the node is in PAGEWIRE_URL (http://127.0.0.1:8080 without it).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).parent
NODE = os.environ.get("PAGEWIRE_URL", "http://127.0.0.1:8080").rstrip("/")
SECRET = os.environ.get("PAGEWIRE_AUTH__HS256_SECRET", "")
FILES = {
    "/": ("board.html", "text/html"),
    "/board.js": ("board.js", "text/javascript"),
    "/board.css": ("board.css", "text/css"),
}
HOUR = 3600


def token(user: str) -> str:
    """Returns a token of a user that is valid for an hour."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    header, claims = {"alg": "HS256", "typ": "JWT"}, {"sub": user, "exp": int(time.time()) + HOUR}
    signed = b".".join(part(json.dumps(value).encode()) for value in (header, claims))
    signature = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + part(signature)).decode()


class Site(BaseHTTPRequestHandler):
    """The page, the browser client, the address of the node, and the login."""

    def do_GET(self) -> None:
        if self.path == "/pagewire.js":  # every node serves the browser client
            with urllib.request.urlopen(f"{NODE}/pagewire.js", timeout=5) as client:
                self.answer(200, client.read(), "text/javascript")
        elif self.path == "/settings":
            self.answer(200, json.dumps({"socket": re.sub("^http", "ws", NODE) + "/_ws"}).encode())
        elif self.path in FILES:
            name, kind = FILES[self.path]
            self.answer(200, (HERE / name).read_bytes(), kind)
        else:
            self.answer(404, b'{"error": "there is no such page"}')

    def do_POST(self) -> None:
        try:
            length = min(int(self.headers.get("content-length", 0)), 4096)
            user = str(json.loads(self.rfile.read(length))["user"]).strip()
        except (ValueError, KeyError, TypeError):
            user = ""
        # the example believes the name; a real login checks a password or an identity provider here
        if self.path != "/login" or not re.fullmatch(r"[a-z0-9]{1,20}", user):
            self.answer(400, json.dumps({"error": "a name has 1 to 20 small letters or digits"}).encode())
        else:
            self.answer(200, json.dumps({"token": token(user)}).encode())

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    if len(SECRET) < 32:
        sys.exit("PAGEWIRE_AUTH__HS256_SECRET has at least 32 characters, the same for the site and the node")
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    site = ThreadingHTTPServer(("127.0.0.1", port), Site)
    print(f"the board is at http://127.0.0.1:{site.server_port}", flush=True)
    try:
        site.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
