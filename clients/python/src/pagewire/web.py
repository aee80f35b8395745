"""Pagewire inside a web application: in a request of HTTP, and in the other threads of its process.

Owns: the requests in the name of the application, and what a request of HTTP belongs to. Never: the server and the
socket (`serving`, `link`).

Everything here is for sync code and safe in threads: one thread of the process reads the replies.
"""

from __future__ import annotations

import time
from typing import Any, Callable, NamedTuple
from urllib.parse import unquote

from .errors import Error
from .locks import Lock
from .register import Register, Store
from .requests import Caller, Handle, Jobs, Log, Reach
from .served import Served, Way, served
from .state import Edit, Reading, State, Trees
from .steps import Steps, drive


class OpenPage(NamedTuple):
    """A page, and what it belongs to. `opened` is in seconds since the Unix epoch."""

    id: str
    session: str
    connection: str
    user: str | None
    opened: float


def _page(found: Any) -> OpenPage:
    return OpenPage(found["page"], found["session"], found["connection"], found.get("user"), found["opened_ms"] / 1000)


class WebClient(Caller[Reach, Any]):
    """Pagewire in the name of the application: for threads and timers of a web application, outside of its requests.

    It has no user: name one where it matters.
    """

    _edit_type = Edit
    _id = None
    """Requests and lines of the log belong to no piece of work."""

    __slots__ = ("_way",)

    def __init__(self, way: Way) -> None:
        self._way = way

    @property
    def lane(self) -> str:
        """The lane of this process."""
        return str(self._link.welcome.get("lane", ""))

    @property
    def release(self) -> str:
        """The release of the application that this process runs."""
        return str(self._link.welcome.get("release", ""))

    @property
    def state(self) -> Trees[Any, Reading, int, Edit]:
        """The state trees: `state.of("user", "ada").get("last.query")`."""
        return Trees(self)

    @property
    def jobs(self) -> Jobs[str, dict[str, Any]]:
        """Durable jobs."""
        return Jobs(self)

    def lock(self, name: str, ttl: float = 30, wait: float | None = None) -> Lock:
        """Returns a lock: `with client.lock("stock") as lock:`. It is renewed while it is held.

        `wait` is how many seconds to wait for it. Raises Error with the code `locked` if another one holds it.
        """
        return Lock(self, name, ttl, wait)  # type: ignore[arg-type]

    @property
    def log(self) -> Log:
        """Lines of the server's log."""
        return Log(self)  # type: ignore[arg-type]

    def register(self, name: str = "default") -> Register:
        """Returns a register: what the application keeps of its users, connections and pages."""
        return Register(self, name)

    def store(self, level: str, id: str = "", *, register: str = "default") -> Store:
        """Returns the data of an item of a register as a mapping: `with client.store("user", "ada") as store:`.

        `level` is `global`, which needs no `id`, `user`, `connection` or `page`.
        """
        return Register(self, register).store(level, id)

    def pages(
        self,
        *,
        user: str | None = None,
        connection: str | None = None,
        session: str | None = None,
        limit: int | None = None,
    ) -> list[OpenPage]:
        """Returns the open pages of a user, connection or session: one of them is given. At most `limit` (1,000)."""
        params: dict[str, Any] = _one_of(user=user, connection=connection, session=session)
        if limit is not None:
            params["limit"] = limit
        return self._ask("page.list", params, lambda found: [_page(one) for one in found["pages"]])  # type: ignore[no-any-return]

    def find_page(self, page: str) -> OpenPage | None:
        """Returns a page by its id, with or without its node, or None if it is not open."""
        try:
            return self._ask("page.get", {"page": page}, _page)  # type: ignore[no-any-return]
        except Error as error:
            if error.code == "unknown":
                return None
            raise

    def close(
        self,
        *,
        user: str | None = None,
        connection: str | None = None,
        session: str | None = None,
        page: str | None = None,
    ) -> int:
        """Closes all pages of a user, connection or session, or a page, for good: one of them is given.

        Returns how many were open. The user may come back.
        """
        params = _one_of(user=user, connection=connection, session=session, page=page)
        return self._ask("page.close", params, lambda closed: int(closed["closed"]))  # type: ignore[no-any-return]

    def end_logins(self, user: str) -> int:
        """Ends all logins of a user, in every browser: the password has changed, or the account is closed.

        Tokens that were issued before are not accepted any more, at any node, and all pages of the user are closed for
        good. Returns how many were open. A login after that is a new one, also of the same request.
        """
        params = {"user": user, "everywhere": True}
        return self._ask("login.end", params, lambda ended: int(ended["closed"]))  # type: ignore[no-any-return]

    @property
    def _link(self) -> Any:
        return self._way.link()

    def _ask(self, method: str, params: Any, shape: Callable[[Any], Any] | None = None) -> Any:
        value = self._way.ask(self, method, params)
        return value if shape is None else shape(value)

    def _drive(self, steps: Steps[Any]) -> Any:
        return drive(steps, self._ask, time.sleep)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _one_of(**named: str | None) -> dict[str, Any]:
    params = {name: str(value) for name, value in named.items() if value is not None}
    if len(params) != 1:
        raise TypeError(f"one of {', '.join(named)} is given")
    return params


class WebRequest(WebClient):
    """Pagewire in a request of HTTP: `environ["pagewire.request"]`.

    `user` is whom the token of the request proves; `page` is the page that the request names, if it is one of this user
    or the request has its token. The page is looked up when `page`, `session` or `connection` is used first.
    """

    __slots__ = (
        "_browser",
        "_claim",
        "_cookies",
        "_found",
        "_has_begun",
        "_is_looked_up",
        "_is_secure",
        "_token",
        "_user",
    )

    def __init__(self, served: Served, environ: dict[str, Any]) -> None:
        super().__init__(served)
        take = environ.pop
        # Pagewire sets these headers and removes those of clients
        user = take("HTTP_X_PAGEWIRE_USER", None)
        self._user = None if user is None else unquote(user)
        self._browser: str | None = take("HTTP_X_PAGEWIRE_CONNECTION", None)
        self._claim: str | None = take("HTTP_X_PAGEWIRE_PAGE", None)
        self._token: str | None = environ.get("HTTP_PAGEWIRE_PAGE_TOKEN")
        self._found: OpenPage | None = None
        self._is_looked_up = False
        self._is_secure = environ["wsgi.url_scheme"] == "https"
        self._cookies: list[tuple[str, str]] = []
        self._has_begun = False

    @property
    def user(self) -> Handle[Reach]:
        """The user whom the token of the request names."""
        return self._handle("user")

    @property
    def page(self) -> Handle[Reach]:
        """The page that has sent the request."""
        return self._handle("page")

    @property
    def session(self) -> Handle[Reach]:
        """The session of the page."""
        return self._handle("session")

    @property
    def connection(self) -> Handle[Reach]:
        """The connection of the page; without a page the browser, by its cookie `pagewire_connection`."""
        return self._handle("connection")

    @property
    def state(self) -> State[Any, Reading, int, Edit]:
        """The state trees of the user, connection, session and page, and those of others (`of`)."""
        return State(self)

    def store(self, level: str, id: str = "", *, register: str = "default") -> Store:
        """Returns the data of an item of a register as a mapping: `with request.store("user") as store:`.

        `level` is `global`, `user`, `connection` or `page`; without an `id` it is that of the request.
        """
        if not id and level in ("user", "connection", "page"):
            id = str(self._handle(level))
            if not id:
                raise Error("malformed", f"this request has no {level}: name the id of the item")
        return super().store(level, id, register=register)

    def login(self, user: str, valid: float = 86_400) -> None:
        """Makes a user who has logged in to the application the user of the browser's pages and requests.

        The answer of this request sets the cookie of `auth.cookie`, with a token that is valid for so many seconds. A
        page that opens or connects after that has the user. Raises Error with the code `unsupported` if the server has
        no `auth.cookie`.
        """
        self._begin_cookie()
        begun = super()._ask("login.begin", {"user": user, "valid_s": max(1, round(valid))})
        self._set_cookie(begun["cookie"], begun["token"], int(begun["valid_s"]))
        self._user = user

    def logout(self) -> int:
        """Ends the login of the browser: the answer deletes its cookie, and pages of the user are closed for good.

        These are the pages of the browser if the request names its page, else all pages of the user. Returns how many
        were open.
        """
        self._begin_cookie()
        params = {"user": self._user, "connection": self._page_connection()} if self._user is not None else {}
        ended = super()._ask("login.end", params)
        self._set_cookie(ended["cookie"], "", 0)
        self._user = None
        self._found, self._is_looked_up = None, True
        return int(ended["closed"])

    def _page_connection(self) -> str | None:
        page = self._look_up()
        return None if page is None else page.connection

    def _begin_cookie(self) -> None:
        if self._has_begun:
            raise Error("conflict", "the answer has begun, so that it can set no cookie any more")

    def _set_cookie(self, name: str, value: str, age: int) -> None:
        secure = "; Secure" if self._is_secure else ""
        text = f"{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"
        self._cookies = [("Set-Cookie", text)]

    def _answering(self, start_response: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a `start_response` that adds the cookie of a login."""

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            self._has_begun = True
            return start_response(status, headers + self._cookies if self._cookies else headers, *error)

        return start

    @property
    def _message(self) -> _Belongings:
        return _Belongings(self)

    def _handle(self, level: str) -> Handle[Reach]:
        return Handle(self, level)  # type: ignore[arg-type]

    def _belongs_to(self, level: str) -> str | None:
        """Returns the id of the user, page, session or connection of the request."""
        if level == "user":
            return self._user
        page = self._look_up()
        if page is None:
            return self._browser if level == "connection" else None
        return page.id if level == "page" else page.session if level == "session" else page.connection

    def _look_up(self) -> OpenPage | None:
        if not self._is_looked_up:
            self._found = self._own_page()
            self._is_looked_up = True
        return self._found

    def _own_page(self) -> OpenPage | None:
        """Returns the page that the request names if it belongs to whom has sent it."""
        if self._claim is None:
            return None
        params = {"page": self._claim}
        if self._token is not None:
            params["token"] = self._token
        try:
            found = super()._ask("page.get", params)
        except Error as error:
            if error.code in ("unknown", "malformed"):
                return None
            raise
        owner = found.get("user")
        # a page of a user belongs to the user, and another one to the client that has its token
        is_own = found.get("proven", False) if owner is None else owner == self._user
        return _page(found) if is_own else None

    def _ask(self, method: str, params: Any, shape: Callable[[Any], Any] | None = None) -> Any:
        return super()._ask(method, self._named(method, params), shape)

    def _named(self, method: str, params: Any) -> Any:
        """Returns the parameters with the ids that work would have by default."""
        if method in ("state.get", "state.patch") and "id" not in params:
            level = params["level"]
            id = self._belongs_to(level)
            if id is None:
                raise Error("malformed", f"this request of HTTP belongs to no {level}")
            return {**params, "id": id}
        if method in ("job.submit", "call") and "user" not in params and self._user is not None:
            return {**params, "user": self._user}
        return params

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._user or 'nobody'}>"


class _Belongings:
    """What a request of HTTP belongs to, as a handle reads it."""

    __slots__ = ("_request",)

    def __init__(self, request: WebRequest) -> None:
        self._request = request

    def get(self, level: str) -> str | None:
        return self._request._belongs_to(level)


def current() -> WebClient:
    """Returns Pagewire in the name of a web application, wherever there is no request of HTTP.

    In a mount this is for threads and timers. A program that no mount has started, such as a task worker or a periodic
    command, gets the client for `PAGEWIRE_URL` and `PAGEWIRE_API_KEY`.

    Raises Error with the code `unsupported` without both.
    """
    if served.is_here:
        return _client
    from . import program

    found = program.of_environment()
    if found is not None:
        return found
    if served.is_expected:  # its requests say what a forked process cannot do
        return _client
    text = f"this process is not one of a mount of Pagewire: set {program.URL} to the address of a server"
    raise Error("unsupported", text)


_client = WebClient(served)
