"""A client of the store room, as a browser is one: cookies, tabs, and their sockets. Only the standard library."""

from __future__ import annotations

import base64
import http.client
import http.cookies
import json
import os
import re
import socket
import struct
import urllib.parse
from typing import Any


class Refused(Exception):
    """An answer with another status than 200; `status` is that."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class Browser:
    """The browser of one user. `cookies` outlive it, so that a login does."""

    def __init__(self, url: str, user: str, cookies: dict[str, str] | None = None) -> None:
        self.host = urllib.parse.urlsplit(url).netloc
        self.user = user
        self.cookies = {} if cookies is None else cookies
        self.seen = http.client.HTTPMessage()  # headers of the last answer

    def get(self, path: str) -> str:
        return self._request("GET", path)

    def post(self, path: str, body: str, headers: dict[str, str]) -> str:
        return self._request("POST", path, body, {"X-CSRFToken": self.cookies.get("csrftoken", ""), **headers})

    def submit(self, path: str, **fields: Any) -> None:
        """Sends the form at a path, which answers with a redirect if it takes it."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(path))
        form = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": token and token[1]})
        try:
            self.post(path, form, {"Content-Type": "application/x-www-form-urlencoded"})
        except Refused as answer:
            if answer.status == 302:
                return
            raise
        raise AssertionError(f"the form at {path} is refused")

    def login(self) -> None:
        self.submit("/login/", username=self.user, password=f"secret of {self.user}")

    def is_logged_in(self) -> bool:
        try:
            self.get("/here")
        except Refused:
            return False
        return True

    def open(self) -> Tab:
        return Tab(self, self.get("/"))

    def _request(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> str:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            origin = f"http://{self.host}"
            connection.request(method, path, body, {"Cookie": cookies, "Origin": origin, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie") or []:
            for name, cookie in http.cookies.SimpleCookie(line).items():
                self.cookies[name] = cookie.value
                if cookie["max-age"] == "0":
                    del self.cookies[name]
        self.seen = answer.headers
        if answer.status != 200:
            raise Refused(answer.status, text)
        return text


class Tab:
    """One tab with a page."""

    def __init__(self, browser: Browser, document: str) -> None:
        self.browser = browser
        parts = re.findall(r'<script id="(\w+)" type="application/json">(.*?)</script>', document)
        values = {name: json.loads(text) for name, text in parts}
        self.settings: dict[str, Any] = values["settings"]
        self.page: str = self.settings["page"]
        self.shown: dict[str, Any] = values["shown"]
        self.live = ""  # the id of the page of its socket

    def act(self, method: str, **params: Any) -> dict[str, Any]:
        """Runs a method of the page, and returns what it shows then."""
        headers = {"Content-Type": "application/json", "X-Pagewire-Page": self.live}
        answer = self.browser.post(f"/page/{self.page}/{method}", json.dumps(params), headers)
        notice = self.shown["notice"]
        self.shown = {"notice": notice, **json.loads(answer)}
        self._notice(notice)
        return self.shown

    def poll(self) -> list[dict[str, Any]]:
        taken = json.loads(self.browser.get(f"/page/{self.page}/poll"))
        assert not taken["reset"], taken
        for change in taken["changes"]:
            self._notice(change.get("notice", self.shown["notice"]))
        return taken["changes"]

    def _notice(self, notice: dict[str, Any]) -> None:
        """Shows a notice if it is newer than the one that is shown."""
        if notice["revision"] > self.shown["notice"]["revision"]:
            self.shown["notice"] = notice

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.shown["rows"] if row["name"] == name)

    def close(self) -> None:
        self.act("close")

    def socket(self) -> Socket:
        """Opens the socket of the page as `page.js` does: subscribed, and with an object where pages are resident."""
        resident = self.settings.get("resident")
        socket = Socket(self.browser, resident)
        socket.request({"type": "subscribe", "topic": self.settings["topic"]})
        if resident:
            self.live = socket.registered["page_id"]
            socket.call("begin", {"page": self.page, "connection": self.settings["connection"]})
        return socket

    def timing(self) -> tuple[str, float, str]:
        """Returns where the page of the last request came from, the milliseconds that this took, and the process."""
        origin, spent, process = self.browser.seen["Server-Timing"].split(";")
        return origin, float(spent.removeprefix("dur=")), process.removeprefix("desc=")


class Socket:
    """The socket of a page: frames of `pagewire.v1`."""

    def __init__(self, browser: Browser, resident: str | None = None) -> None:
        self.resident = resident
        host, _, port = browser.host.rpartition(":")
        self._stream = socket.create_connection((host, int(port)), timeout=15)
        self._input = self._stream.makefile("rb")
        self._early: list[dict[str, Any]] = []
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET /_ws HTTP/1.1\r\nHost: {browser.host}\r\nOrigin: http://{browser.host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: pagewire.v1\r\nCookie: {cookies}\r\n\r\n"
        )
        self._stream.sendall(head.encode())
        status = self._input.readline()
        assert b" 101 " in status, status
        while self._input.readline() != b"\r\n":
            pass
        self.send({"type": "hello", **({"resident": {"class": resident}} if resident else {})})
        self.registered = self.next()
        assert self.registered["type"] == "registered", self.registered

    def send(self, frame: dict[str, Any]) -> None:
        self._write(0x1, json.dumps(frame).encode())

    def next(self) -> dict[str, Any]:
        """Returns the next frame."""
        return self._early.pop(0) if self._early else self._receive()

    def request(self, frame: dict[str, Any]) -> Any:
        """Sends a frame and returns the value of its result."""
        self.send({**frame, "id": 1})
        while True:
            answer = self._receive()
            if answer.get("id") != 1:
                self._early.append(answer)
                continue
            assert answer["type"] == "result", answer
            return answer.get("value")

    def call(self, method: str, params: dict[str, Any]) -> Any:
        """Calls a method of the object of the page."""
        return self.request({"type": "call", "method": f"{self.resident}.{method}", "params": params})

    def message(self) -> dict[str, Any]:
        """Returns the payload of the next message."""
        while True:
            frame = self.next()
            if frame["type"] == "message":
                return frame["payload"]

    def close(self) -> None:
        self._write(0x8, struct.pack(">H", 1000))
        self._stream.close()

    def _receive(self) -> dict[str, Any]:
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
            payload = self._exactly(size)
            if first & 0xF == 0x1:
                return json.loads(payload)
            if first & 0xF == 0x9:
                self._write(0xA, payload)
            elif first & 0xF == 0x8:
                raise ConnectionError(f"the socket was closed: {payload[2:].decode()}")

    def _exactly(self, size: int) -> bytes:
        data = self._input.read(size)
        if len(data) < size:
            raise ConnectionError("the socket has ended")
        return data

    def _write(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        length = struct.pack(">B", 0x80 | size) if size < 126 else struct.pack(">BH", 0x80 | 126, size)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._stream.sendall(bytes([0x80 | kind]) + length + mask + masked)
