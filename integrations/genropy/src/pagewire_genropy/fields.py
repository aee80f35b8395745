"""The fields of an item: as Genropy names them, and as the register keeps them.

Owns: names, times, and the dictionary that Genropy gets for an item. Never: data.

The register reads fields, to find items by them, so they are JSON. A time is seconds since 1970.
"""

from __future__ import annotations

import datetime
from typing import Any

OWN = {
    "global": (),
    "user": ("user_id", "user_name", "user_tags"),
    "connection": (
        "connection_name",
        "user",
        "user_id",
        "user_name",
        "user_tags",
        "user_ip",
        "user_agent",
        "browser_name",
        "electron_static",
    ),
    "page": ("pagename", "connection_id", "user", "user_ip", "user_agent", "relative_url"),
}
"""The fields of each level, by their names in Genropy."""

REFRESHED = ("last_user_ts", "last_rpc_ts", "last_refresh_ts")
_TIMES = ("start_ts", *REFRESHED)
_LONGEST = 600
"""Letters of a field that a client has chosen, such as its user agent."""

_NAMES = {"connection_id": "connection"}


def stored_name(name: str) -> str:
    """Returns the name of a field in the register."""
    return _NAMES.get(name, name)


def moment(value: Any) -> float | None:
    """Returns a time of Genropy as the register keeps it."""
    return value.timestamp() if isinstance(value, datetime.datetime) else None


def stored(level: str, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of an item for the register, from values by their names in Genropy."""
    fields: dict[str, Any] = {}
    for name in OWN[level]:
        if name in values:
            fields[stored_name(name)] = _json(values[name])
    return fields


def born(level: str, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a new item for the register."""
    fields = {name: value for name, value in stored(level, values).items() if value is not None}
    return {**fields, "start_ts": datetime.datetime.now().timestamp()}


def _json(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)[:_LONGEST]


def item_of(level: str, id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the item as Genropy knows it, without data, queue and subscriptions."""
    item: dict[str, Any] = {"register_item_id": id, "register_name": level}
    for name in OWN[level]:
        item[name] = fields.get(stored_name(name))
    for name in _TIMES:
        if name in fields:
            item[name] = datetime.datetime.fromtimestamp(fields[name])
    if level == "user":
        item["user"] = id
    elif level == "page":
        item["subscribed_tables"] = []
    return item
