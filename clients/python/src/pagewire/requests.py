"""The parts of a context that send requests: targets of pushes, jobs, and the log.

Owns: the parameters and results of `push.send` and `job.*`, lines of the log. Never: how a request is sent (`context`).

Every method exists once. In a sync handler it returns the value, in an async handler an awaitable of it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Generic, NamedTuple, TypeVar

from .state import Value
from .steps import Steps
from .wire import encode, pack

if TYPE_CHECKING:
    from .context import AnyContext
    from .state import Asker

Sent = TypeVar("Sent")
Record = TypeVar("Record")
Text = TypeVar("Text")

SAME_USER: Any = object()
"""The user of the work, where None means no user."""


class Reach(NamedTuple):
    """The pages that a push has reached: with an open socket, and in their resume window."""

    reached: int
    held: int


def reach(value: Any) -> Reach:
    return Reach(value.get("reached", 0), value.get("held", 0))


def _no_pages() -> Steps[Reach]:
    yield from ()
    return Reach(0, 0)


class Requester(Generic[Sent]):
    """What sends requests, and their pushes: a context or a client."""

    __slots__ = ()

    def send(self, to: dict[str, Any], payload: Any) -> Sent:
        """Sends a message to `{"page": id}`, `{"session": id}`, `{"connection": id}`, `{"user": id}` or
        `{"topic": name}`.
        """
        return self._ask("push.send", {"to": to, "payload": payload}, reach)  # type: ignore[no-any-return]

    def broadcast(self, payload: Any) -> Sent:
        """Sends a message to all pages."""
        return self.send({"all": True}, payload)

    def _ask(self, method: str, params: Any, shape: Callable[[Any], Any] | None = None) -> Any:
        raise NotImplementedError

    def _drive(self, steps: Steps[Any]) -> Any:
        raise NotImplementedError


class Caller(Requester[Sent], Generic[Sent, Value]):
    """What calls handlers as well: a context, or a client inside of a web application."""

    __slots__ = ()

    def call(
        self,
        method: str,
        params: Any = None,
        *,
        user: str | None = SAME_USER,
        mode: str | None = None,
        pool: str | None = None,
        timeout: float | None = None,
    ) -> Value:
        """Calls a handler and returns its result. `timeout` is in seconds."""
        return self._ask("call", call_params(method, params, user, mode, pool, timeout))  # type: ignore[no-any-return]


class Handle(Generic[Sent]):
    """The user, page, session or connection of the work: its `id`, and a target of pushes.

    It is false, and its id is None, if the work has none.
    """

    __slots__ = ("_context", "_level", "id")

    def __init__(self, context: AnyContext, level: str) -> None:
        self._context = context
        self._level = level
        self.id: str | None = context._message.get(level)

    def send(self, payload: Any) -> Sent:
        """Sends a message to its pages. It reaches no page if the work has none."""
        if self.id is None:
            return self._context._drive(_no_pages())  # type: ignore[no-any-return]
        params = {"to": {self._level: self.id}, "payload": payload}
        return self._context._ask("push.send", params, reach)  # type: ignore[no-any-return]

    def __bool__(self) -> bool:
        return self.id is not None

    def __str__(self) -> str:
        return self.id or ""

    def __repr__(self) -> str:
        return f"<{self._level} {self.id}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Handle):
            return (self._level, self.id) == (other._level, other.id)
        return self.id == other

    def __hash__(self) -> int:
        return hash(self.id)


class Jobs(Generic[Text, Record]):
    """Durable jobs that a handler submits."""

    __slots__ = ("_context",)

    def __init__(self, context: Asker) -> None:
        self._context = context

    def submit(
        self,
        kind: str,
        data: Any = None,
        *,
        user: str | None = SAME_USER,
        mode: str | None = None,
        pool: str | None = None,
        delay: float | None = None,
        retries: int | None = None,
        key: str | None = None,
    ) -> Text:
        """Submits a job for the handler `kind`. Returns its id.

        The job runs for the user of this work, for another `user`, or for none (None). `delay` is in seconds. A second
        job with the same `key` within a day is the first one.
        """
        params = job_params(kind, data, user, mode, pool, delay, retries, key)
        return self._context._ask("job.submit", params, lambda value: value["job"])  # type: ignore[no-any-return]

    def get(self, job: str) -> Record:
        """Returns a job: `{id, kind, state, attempts, progress?, result?, error?}`."""
        return self._context._ask("job.get", {"job": job})  # type: ignore[no-any-return]

    def cancel(self, job: str) -> Text:
        """Cancels a job. Returns its state."""
        return self._context._ask("job.cancel", {"job": job}, lambda value: value["state"])  # type: ignore[no-any-return]


def job_params(
    kind: str,
    data: Any,
    user: str | None,
    mode: str | None,
    pool: str | None,
    delay: float | None,
    retries: int | None,
    key: str | None,
) -> dict[str, Any]:
    """Returns the parameters of the request `job.submit`."""
    params: dict[str, Any] = {"kind": kind}
    if data is not None:
        params["data"] = data
    if user is not SAME_USER:
        params["user"] = user
    if delay is not None:
        params["run_in_ms"] = max(0, round(delay * 1000))
    _add(params, exec_mode=mode, pool=pool, retries=retries, idempotency_key=key)
    return params


def call_params(
    method: str, params: Any, user: str | None, mode: str | None, pool: str | None, timeout: float | None
) -> dict[str, Any]:
    """Returns the parameters of the request `call`."""
    asked: dict[str, Any] = {"method": method}
    if params is not None:
        asked["params"] = params
    if user is not SAME_USER:
        asked["user"] = user
    if timeout is not None:
        asked["timeout_ms"] = max(1, round(timeout * 1000))
    _add(asked, exec_mode=mode, pool=pool)
    return asked


def _add(params: dict[str, Any], **optional: Any) -> None:
    params.update({name: value for name, value in optional.items() if value is not None})


# a number that no double can hold
_HUGE = re.compile(rb"\d{309}")
_LOG_MESSAGE = 16_000
_LOG_FIELDS = 64_000


class Log:
    """Lines of the server's log that name the work, if there is one: `ctx.log.info("paid", amount=3)`."""

    __slots__ = ("_context",)

    def __init__(self, context: AnyContext) -> None:
        self._context = context

    def debug(self, message: str, **fields: Any) -> None:
        self._write("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._write("info", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self._write("warn", message, fields)

    warning = warn

    def error(self, message: str, **fields: Any) -> None:
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        text = str(message)[:_LOG_MESSAGE].encode("utf-8", "replace").decode()
        line: dict[str, Any] = {"t": "log", "level": level, "message": text}
        if fields:
            line["fields"] = {name: _loggable(value) for name, value in fields.items()}
        if self._context._id is not None:
            line["work"] = self._context._id
        body = encode(line)
        if len(body) > _LOG_FIELDS + 4 * _LOG_MESSAGE:
            line["fields"] = {"dropped": "the fields are too large"}
            body = encode(line)
        self._context._link.send(pack(body))


def _loggable(value: Any) -> Any:
    """Returns a value, or its text if it is not JSON: a line of the log is never an error."""
    try:
        if not _HUGE.search(encode(value)):
            return value
    except Exception:
        pass
    try:
        return repr(value)[:_LOG_MESSAGE].encode("utf-8", "replace").decode()
    except Exception:  # a value whose text cannot be made
        return f"(a value of the type {type(value).__name__})"
