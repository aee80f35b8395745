"""Which items a request is going to use, read off the request before anything is known.

Owns: a guess, which saves messages. Never: a decision; Genropy checks the signature of its cookie itself.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from .keys import Key

_PAGE = re.compile(r"[A-Za-z0-9_]{1,64}")
_COOKIE = re.compile(r"\?connection_id=([A-Za-z0-9+/=]+)")
_ID = re.compile(rb"[A-Za-z0-9_]{22}")


def keys_of(request: Any) -> tuple[Key | None, Key | None]:
    """Returns the keys of the page and of the connection that a request names."""
    page = request.args.get("page_id") or request.form.get("page_id")
    key = Key("page", page) if page and _PAGE.fullmatch(page) else None
    for value in request.cookies.values():
        connection = connection_of(value)
        if connection is not None:
            return key, Key("connection", connection)
    return key, None


def is_poll(request: Any) -> bool:
    """Returns whether a request polls, so that the news of its page are asked for."""
    return str(getattr(request, "path", "")).endswith("/_ping")


def connection_of(cookie: str) -> str | None:
    """Returns the connection that a cookie of Genropy names, or None. The cookie is searched, never unmarshalled."""
    found = _COOKIE.search(cookie)
    if found is None:
        return None
    try:
        named = _ID.search(base64.b64decode(found[1]))
    except ValueError:
        return None
    return named[0].decode("ascii") if named else None
