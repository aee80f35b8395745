"""A client of the store room, as a browser is one: cookies and tabs. Only the standard library."""

from __future__ import annotations

import http.client
import http.cookies
import json
import re
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

    def post(self, path: str, body: str, kind: str = "application/x-www-form-urlencoded") -> str:
        return self._request(
            "POST", path, body, {"Content-Type": kind, "X-CSRFToken": self.cookies.get("csrftoken", "")}
        )

    def submit(self, path: str, **fields: Any) -> None:
        """Sends the form at a path, which answers with a redirect if it takes it."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(path))
        form = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": token and token[1]})
        try:
            self.post(path, form)
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
            self.cookies.update({name: cookie.value for name, cookie in http.cookies.SimpleCookie(line).items()})
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

    def act(self, method: str, **params: Any) -> dict[str, Any]:
        """Runs a method of the page, and returns what it shows then."""
        answer = self.browser.post(f"/page/{self.page}/{method}", json.dumps(params), "application/json")
        self.shown = json.loads(answer)
        return self.shown

    def poll(self) -> list[dict[str, Any]]:
        taken = json.loads(self.browser.get(f"/page/{self.page}/poll"))
        assert not taken["reset"], taken
        return taken["changes"]

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.shown["rows"] if row["name"] == name)

    def close(self) -> None:
        self.act("close")

    def spent(self) -> float:
        """Returns the milliseconds that the last request has spent on rebuilding the page."""
        return float(self.browser.seen["Server-Timing"].rpartition("=")[2])
