"""Values of the application as text that the register stores without reading it.

Owns: pickling, and copies of values. Never: what a value means. A text is only read by a process of the application,
and has been written by one: the register is private to them.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import pickle
import zlib
from typing import Any

_COMPRESS_FROM = 2048
"""Bytes of a pickle from which on it is compressed."""

_SHARED = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        str,
        bytes,
        datetime.date,
        datetime.datetime,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
    }
)
"""Types whose values cannot be changed, so that a copy is the value itself."""


def dump(value: Any) -> str:
    """Returns the text of a value. Raises what `pickle` raises if it cannot be pickled."""
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    if len(data) < _COMPRESS_FROM:
        return "p" + base64.b64encode(data).decode("ascii")
    return "z" + base64.b64encode(zlib.compress(data, 1)).decode("ascii")


def load(text: str) -> Any:
    """Returns a new value for each call."""
    data = base64.b64decode(text[1:])
    return pickle.loads(zlib.decompress(data) if text[0] == "z" else data)


def copied(value: Any) -> Any:
    """Returns a value that shares nothing with the given one, as if it had crossed a socket."""
    if type(value) in _SHARED:
        return value
    return pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
