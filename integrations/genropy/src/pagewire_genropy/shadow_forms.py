"""What is compared of an answer: the same for two registers that mean the same.

Owns: the forms, and what is left out of them. Never: a comparison (`shadow_pair`). Pure.

Left out are times, the numbers of queued changes, and the order of sets, dictionaries and lists of items.
"""

from __future__ import annotations

import datetime
import decimal
from typing import Any, Mapping

from gnr.core.gnrbag import Bag

from .fields import stored

_PLAIN = (bool, int, float, str, bytes, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)


def form(value: Any) -> Any:
    """Returns the form of any value of a store."""
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, Bag):
        return ("Bag", tuple(form(node) for node in value))
    if isinstance(value, dict):
        return (
            "dict",
            tuple(sorted(((repr(name), form(one)) for name, one in value.items()), key=lambda pair: pair[0])),
        )
    if isinstance(value, (set, frozenset)):
        return ("set", tuple(sorted(repr(form(one)) for one in value)))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(form(one) for one in value))
    if hasattr(value, "change_ts"):
        return of_change(value)
    if hasattr(value, "getValue") and hasattr(value, "label"):
        return _of_node(value)
    return (type(value).__name__, form(getattr(value, "__dict__", repr(value))))


def _of_node(node: Any) -> Any:
    resolver = node.resolver
    value = type(resolver).__name__ if resolver is not None else form(node.getValue("static"))
    return (node.label, form(dict(node.attr)), value)


def of_change(change: Any) -> Any:
    """Returns the form of a data change."""
    attributes = form(dict(change.attributes or {}))
    value = form(change.value)
    return (change.path, change.reason, bool(change.fired), bool(change.delete), attributes, value)


def of_changes(bag: Any) -> list[Any]:
    """Returns the forms of the changes in the answer to a poll."""
    found = []
    for node in bag or ():
        given = node.attr
        attributes = form(dict(given.get("change_attr") or {}))
        flags = bool(given.get("change_fired")), bool(given.get("change_delete"))
        found.append((given["change_path"], given.get("change_reason"), *flags, attributes, form(node.value)))
    return found


def of_item(item: Mapping[str, Any] | None) -> Any:
    """Returns the form of an item."""
    if item is None:
        return None
    level = item["register_name"]
    found = {
        **_of_listed(item),
        "subscribed_paths": form(set(item.get("subscribed_paths") or ())),
        "subscribed_tables": form(set(item.get("subscribed_tables") or ())),
    }
    if level == "user":
        # the changes that wait for a page are in no item of Pagewire: they are compared when the page takes them
        found["datachanges"] = [of_change(change) for change in item.get("datachanges") or ()]
    if level in ("user", "connection"):
        found["avatar_extra"] = form(item.get("avatar_extra"))
    return found


def of_items(items: Any) -> Any:
    """Returns the form of items by id, of which lists have only the fields."""
    return {id: _of_listed(item) for id, item in items.items()}


def _of_listed(item: Mapping[str, Any]) -> dict[str, Any]:
    fields = stored(item["register_name"], dict(item.items()))
    found = {name: value for name, value in fields.items() if value is not None}
    found["id"] = item["register_item_id"]
    if isinstance(item.get("data"), Bag):
        found["data"] = form(item["data"])
    return found


def taken(page_id: str, answer: Any) -> dict[str, list[Any]] | None:
    """Returns the forms of the changes in an answer by page, or None if the page is unknown.

    The answer is that to a poll, or a list of changes.
    """
    if not hasattr(answer, "getItem"):
        return None if answer is False else {page_id: [of_change(change) for change in answer or ()]}
    found = {page_id: of_changes(answer.getItem("dataChanges"))}
    for node in answer.getItem("childDataChanges") or ():
        found[node.label] = of_changes(node.value)
    return found


def parts(one: Any, two: Any) -> tuple[str, str]:
    """Returns where two forms differ, as short texts."""
    if isinstance(one, dict) and isinstance(two, dict):
        names = [name for name in {**one, **two} if one.get(name) != two.get(name)]
        if names:
            name = names[0]
            texts = parts(one.get(name), two.get(name))
            return f"{name}: {texts[0]}", f"{name}: {texts[1]}"
    if isinstance(one, tuple) and isinstance(two, tuple) and len(one) == len(two):
        for mine, other in zip(one, two):
            if mine != other:
                return parts(mine, other)
    return short(one), short(two)


def short(value: Any) -> str:
    """Returns the beginning of a form as text."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"
