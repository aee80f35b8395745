"""A browser of a Genropy site without a browser: cookies, pages, and what their scripts send.

Owns: the forms of login, remote calls, pings and closed pages. Never: what a site is expected to answer (`register`).
"""

import http.client
import http.cookies
import itertools
import re
import time
import urllib.parse
from xml.sax.saxutils import escape

PAGE = re.compile(r"page_id:\s*'([A-Za-z0-9_]+)'")
CUSTOMERS = "/sys/thpage/invc/customer?th_public=True"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def bag(**values):
    """Returns a Bag of plain texts, or of XML where a name ends with `_xml`, as typed text."""
    parts = []
    for name, value in values.items():
        if name.endswith("_xml"):
            parts.append(f"<{name[:-4]}>{value}</{name[:-4]}>")
        else:
            parts.append(f"<{name}>{escape(value)}</{name}>")
    return f"<?xml version='1.0' encoding='UTF-8'?><GenRoBag>{''.join(parts)}</GenRoBag>::BAG"


class Answer:
    """The status and the text of an answer, and how long it took in milliseconds."""

    def __init__(self, status, text, took):
        self.status, self.text, self.took = status, text, took

    def __repr__(self):
        return f"{self.status} {self.text[:200]!r}"


class Client:
    """One user with cookies, and a connection to each URL. The requests go to the URLs in turns."""

    def __init__(self, *urls):
        self.go_to(*urls)
        self._connections = {}
        self._cookies = http.cookies.SimpleCookie()

    def go_to(self, *urls):
        """Sends requests to these URLs from now on, with the cookies that it has."""
        self._addresses = itertools.cycle([urllib.parse.urlsplit(url).netloc for url in urls])

    def send(self, method, path, body=None, headers=None):
        """Sends a request and returns its answer, with a second try on a connection that was closed meanwhile."""
        address = next(self._addresses)
        try:
            return self._send(address, method, path, body, headers or {})
        except (http.client.HTTPException, ConnectionError):
            self._connections.pop(address).close()
            return self._send(address, method, path, body, headers or {})

    def _send(self, address, method, path, body, headers):
        if address not in self._connections:
            self._connections[address] = http.client.HTTPConnection(address, timeout=60)
        connection = self._connections[address]
        cookies = "; ".join(f"{name}={morsel.coded_value}" for name, morsel in self._cookies.items())
        agent = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140", "Accept-Encoding": "identity"}
        start = time.perf_counter()
        connection.request(method, path, body, {**agent, "Cookie": cookies, **headers})
        response = connection.getresponse()
        text = response.read().decode()
        took = (time.perf_counter() - start) * 1000
        for line in response.headers.get_all("Set-Cookie") or ():
            self._cookies.load(line)
        return Answer(response.status, text, took)

    def post(self, path, /, **form):
        return self.send("POST", path, urllib.parse.urlencode(form), FORM)

    def open(self, path):
        """Opens a page, and returns it without its content."""
        answer = self.send("GET", path)
        found = PAGE.search(answer.text)
        if not found:
            raise AssertionError(f"{path} is no page: {answer}")
        return Page(self, path, found[1], answer.took)

    def log_in(self, user):
        """Logs in with the dialog of the start page, and returns that page."""
        page = self.open("/")
        page.build()
        login = bag(user=user, password="a")
        answer = page.call("login_checkAvatar", user=user, password="a", serverTimeDelta="0::L")
        if "avatar" not in answer.text:
            raise AssertionError(f"{user} is unknown: {answer}")
        answer = page.call("login_doLogin", login=login, rootenv=bag(login=user))
        if answer.status != 200 or "error" in answer.text:
            raise AssertionError(f"no login of {user}: {answer}")
        page.close()
        page = self.open("/")
        page.build()
        return page


class Page:
    """An open page."""

    def __init__(self, client, path, page_id, took):
        self.client, self.path, self.id, self.took = client, path.partition("?")[0], page_id, took

    def build(self):
        """Asks for the content, as the page does first."""
        answer = self.client.post(self.path, method="main", page_id=self.id)
        if answer.status != 200:
            raise AssertionError(f"{self.path} has no content: {answer}")
        return answer

    def call(self, method, **parameters):
        return self.client.post(self.path, method=method, page_id=self.id, **parameters)

    def ping(self, **parameters):
        return self.client.post("/_ping", page_id=self.id, reason="auto", **parameters)

    def save(self, pkey, **fields):
        """Saves fields of a customer as an edited row of the grid."""
        cells = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
        row = f"<r_0 _pkey=\"{pkey}\">{cells}</r_0>"
        changes = bag(updated_xml=row)
        return self.call("app.saveEditedRows", table="invc.customer", changeset=changes)

    def close(self):
        """Sends what a browser sends when it leaves a page."""
        return self.client.send("POST", f"/_beacon?page_id={self.id}&method=onClosedPage", b"")
