"""The server API in the words of the child wire.

Owns: from a request such as `state.get` to a request of HTTP, and from its response to the value. Never: connections
(`http_pool`).
"""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from urllib.parse import quote

from .draft import Draft
from .errors import Error, error_of

_SIMPLE = re.compile(r"[A-Za-z0-9_-]+")


class Route(NamedTuple):
    """A request of HTTP. `body` is JSON, or None for no body. One that is repeatable does no harm a second time."""

    verb: str
    path: str
    body: Any = None
    is_repeatable: bool = False

    @property
    def may_be_sent_again(self) -> bool:
        """Whether it is sent again when its connection is lost: any but a `POST` that changes something."""
        return self.is_repeatable or self.verb != "POST"


class Response(NamedTuple):
    """A response of HTTP. `value` is its JSON, and `tag` the revision in its ETag."""

    status: int
    value: Any
    tag: int | None


def route(method: str, params: dict[str, Any]) -> Route:
    """Returns the request of HTTP for a request of the child wire."""
    if method == "state.get":
        return Route("GET", _tree(params) + (f"/{quote(params['path'], safe='')}" if params.get("path") else ""))
    if method == "state.patch":
        body = {name: params[name] for name in ("changes", "if_revision") if name in params}
        return Route("PATCH", _tree(params), body)
    if method == "push.send":
        return Route("POST", "/send", params)
    if method == "job.submit":
        return Route("POST", "/jobs", _job(params))
    if method == "job.get":
        return Route("GET", f"/jobs/{quote(params['job'], safe='')}")
    if method == "job.cancel":
        return Route("POST", f"/jobs/{quote(params['job'], safe='')}/cancel", {})
    if method == "call":
        return Route("POST", "/calls", params)
    if method == "stats":
        return Route("GET", "/stats")
    raise Error("unsupported", f"there is no request {method}")


def value_of(method: str, params: dict[str, Any], response: Response) -> Any:
    """Returns the value of a response in the shape that the child wire has.

    Raises Error if the request was refused.
    """
    if response.status >= 400:
        error = response.value.get("error") if isinstance(response.value, dict) else None
        text = f"the server answered with the status {response.status}"
        unknown = {"code": "internal", "message": text, "retryable": response.status >= 500}
        raise error_of(error or unknown, response.status)
    if method == "state.get":
        return {"value": response.value, "revision": response.tag or 0}
    if method == "job.submit":
        return {"job": response.value["id"]}
    return response.value


def missing_value(params: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Returns the value of `state.get` out of the whole tree, because a path that does not exist has no revision."""
    try:
        draft = Draft(whole["value"], whole["revision"])
        if params["path"] in draft:
            return {"value": draft[params["path"]], "revision": whole["revision"]}
    except ValueError:  # a position, which only the server resolves
        pass
    return {"revision": whole["revision"]}


def _tree(params: dict[str, Any]) -> str:
    return f"/{params['level']}s/{_entity(params['level'], params['id'])}/data"


def _entity(level: str, id: str) -> str:
    """Returns an id as a part of a path. A user may have any letters, which a path cannot contain."""
    if level != "user" or _SIMPLE.fullmatch(id):
        return quote(id, safe="")
    return "~" + base64.urlsafe_b64encode(id.encode()).decode().rstrip("=")


def _job(params: dict[str, Any]) -> dict[str, Any]:
    body = dict(params)
    delay = body.pop("run_in_ms", None)
    if delay is not None:
        due = datetime.now(timezone.utc) + timedelta(milliseconds=delay)
        body["run_at"] = due.isoformat().replace("+00:00", "Z")
    return body
