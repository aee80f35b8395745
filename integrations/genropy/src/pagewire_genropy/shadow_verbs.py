"""The verbs that are asked of both registers in the shadow.

Owns: what is compared of each answer, and which items a call concerns. Never: calls (`shadow_pair`).

Not here are verbs that only the first register is asked: `claim_cleanup`, commands for processes and the configuration
have another meaning in each register, and `counters` follows from lists.
"""

from __future__ import annotations

import inspect
from typing import Any, Callable, Mapping

from . import shadow_forms
from .keys import LEVELS, Key, key_of
from .register import SiteRegister
from .siteregister_client import SiteRegisterClient

Form = Callable[[Any], Any]

READS: Mapping[str, Form] = {
    "get_item": shadow_forms.of_item,
    "page": shadow_forms.of_item,
    "connection": shadow_forms.of_item,
    "user": shadow_forms.of_item,
    "pages": shadow_forms.of_items,
    "connections": shadow_forms.of_items,
    "users": shadow_forms.of_items,
    "exists": bool,
    "get_dbenv": shadow_forms.form,
    "filter_subscribed_tables": lambda tables: sorted(tables),
}
"""Verbs that change nothing, with the form of their answers."""

LISTS: Mapping[str, tuple[str, ...]] = {
    "pages": ("page",),
    "connections": ("connection",),
    "users": ("user",),
    "filter_subscribed_tables": ("page",),
}
"""Verbs whose answers depend on all items of these levels."""

WRITES = frozenset(
    {
        "change_connection_user",
        "drop_connection",
        "drop_datachanges",
        "drop_page",
        "drop_user",
        "new_connection",
        "new_page",
        "notifyDbEvents",
        "refresh",
        "reset_datachanges",
        "setInClientData",
        "setPendingContext",
        "setStoreSubscription",
        "set_datachange",
        "set_serverstore_changes",
        "subscribeTable",
        "subscribe_path",
        "unlock_item",
    }
)
"""Verbs that change something. What they have written is compared when it is read."""

TAKES = frozenset({"handle_ping", "subscription_storechanges"})
"""Verbs that take what waits for a page."""


def _expired_pages(second: SiteRegisterClient, given: dict[str, Any], answer: Any) -> None:
    for page_id in answer or ():
        second.siteregister.drop_page(page_id)


def _expired_connection(second: SiteRegisterClient, given: dict[str, Any], answer: Any) -> None:
    if answer:
        second.siteregister.drop_connection(given["connection_id"], cascade=True)


def _locked(second: SiteRegisterClient, given: dict[str, Any], answer: Any) -> None:
    if answer:
        second.siteregister.lock_item(given["register_item_id"], register_name=given["register_name"])


FOLLOWS: Mapping[str, Callable[[SiteRegisterClient, dict[str, Any], Any], None]] = {
    "expire_pages": _expired_pages,
    "expire_connection": _expired_connection,
    "lock_item": _locked,
}
"""Verbs that the first register decides by its clock. The second one does what the answer says."""

VERBS = frozenset({*READS, *WRITES, *TAKES, *FOLLOWS})


def arguments(verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a call by name, with those that are not given."""
    found = getattr(SiteRegisterClient, verb, None) or getattr(SiteRegister, verb)
    bound = inspect.signature(found).bind(None, *args, **kwargs)
    bound.apply_defaults()
    others = next((one.name for one in bound.signature.parameters.values() if one.kind is one.VAR_KEYWORD), "")
    given = dict(bound.arguments)
    more = given.pop(others, {})
    return {**given, **more}


def keys_of_call(given: Mapping[str, Any]) -> list[Key]:
    """Returns the items that a call concerns, from its arguments: owners before what belongs to them."""
    page, connection = given.get("page"), given.get("connection")
    level = given.get("register_name")
    named = [
        ("user", given.get("user")),
        ("user", getattr(connection, "user", None)),
        ("connection", given.get("connection_id")),
        ("connection", getattr(page, "connection_id", None)),
        ("page", given.get("page_id")),
        *(("page", child) for child in given.get("_children_pages_info") or ()),
    ]
    if level in LEVELS and "register_item_id" in given:
        named.append((level, given["register_item_id"]))
    keys = (key_of(level, id) for level, id in named)
    return list(dict.fromkeys(key for key in keys if key is not None))
