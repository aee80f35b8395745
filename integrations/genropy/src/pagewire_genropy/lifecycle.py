"""How connections, users and pages come, change and go.

Owns: the verbs that create, relabel, drop and expire items. Never: data changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pagewire.errors import Error

from . import codec
from .draft import Draft
from .fields import born, item_of, stored
from .keys import GLOBAL, Key
from .listing import Listing, age
from .snapshot import MEMBER, Snapshot, branches

if TYPE_CHECKING:
    from .core import Core

DEFAULT_PAGE_MAX_AGE = 600
"""Seconds after which a page that is not refreshed may be dropped."""

GUEST_CONNECTION_MAX_AGE = 40
CONNECTION_MAX_AGE = 7200


class Lifecycle:
    """The life of items. The ages are seconds; a site may set others (`configure`)."""

    def __init__(self, core: Core, listing: Listing) -> None:
        self._core = core
        self._listing = listing
        self._born_with: dict[str, Any] = {}
        self.configure({})

    def configure(self, cleanup: dict[str, Any]) -> None:
        """Takes the ages of the element `cleanup` of a site's configuration."""
        self.page_max_age = int(cleanup.get("page_max_age") or DEFAULT_PAGE_MAX_AGE)
        self.guest_connection_max_age = int(cleanup.get("guest_connection_max_age") or GUEST_CONNECTION_MAX_AGE)
        self.connection_max_age = int(cleanup.get("connection_max_age") or CONNECTION_MAX_AGE)

    def born_with(self, fields: dict[str, Any]) -> None:
        """Gives these fields to each item that is created from now on."""
        self._born_with = fields

    def _born(self, level: str, values: dict[str, Any]) -> dict[str, Any]:
        return {**born(level, values), **self._born_with}

    # coming

    def new_connection(self, connection_id: str, values: dict[str, Any]) -> dict[str, Any]:
        """Registers a connection, and its user if there is none of this name.

        Raises AssertionError if the connection is known.
        """
        key, user = Key("connection", connection_id), Key("user", str(values["user"]))
        data = _members(avatar_extra=values.get("avatar_extra"))
        ops = [
            {**key.wire(), "create": "new", "fields": self._born("connection", values)},
            {**user.wire(), "create": "new", "fields": self._born("user", values), "data": data},
        ]
        results = self._core.ask("register.write", ops=ops)["results"]
        if results and results[0].get("error", {}).get("code") == "conflict":
            raise AssertionError(f"SITEREGISTER ERROR: connection_id {connection_id} already registered")
        for op, own, result in zip(ops, (key, user), results):
            self._keep_new(own, op, result)
        return item_of("connection", connection_id, ops[0]["fields"])

    def new_page(self, page_id: str, values: dict[str, Any], data: Any) -> dict[str, Any]:
        """Registers a page. An older one with this id is replaced."""
        key = Key("page", page_id)
        op = {**key.wire(), "create": "replace", "fields": self._born("page", values), "data": branches(data)}
        self._keep_new(key, op, self._core.ask("register.write", ops=[op])["results"][0])
        return item_of("page", page_id, op["fields"])

    def _keep_new(self, key: Key, op: dict[str, Any], result: dict[str, Any]) -> None:
        error = result.get("error")
        if error is None:
            self._core.working_set().put(key, Snapshot(key, result["revision"], op["fields"], op.get("data", {})))
        elif error["code"] == "conflict":
            self._core.working_set().forget(key)
        else:
            raise Error(error["code"], error["message"], error.get("retryable", False))

    # login and logout

    def change_connection_user(self, connection_id: str, values: dict[str, Any]) -> None:
        """Gives a connection and its pages to a user. A user without connections ends, with the user's data."""
        working_set, key = self._core.working_set(), Key("connection", connection_id)
        before = working_set.get(key)
        pages = self._core.ask(
            "register.relabel",
            connection=connection_id,
            user=str(values["user"]),
            fields={name: value for name, value in stored("connection", values).items() if name != "user"},
            user_fields=self._born("user", values),
        )["pages"]
        changed = [key, Key("user", str(values["user"])), *(Key("page", page) for page in pages)]
        if before is not None and "user" in before.fields:
            changed.append(Key("user", before.fields["user"]))
        for one in changed:
            working_set.forget(one)
        extra = values.get("avatar_extra")
        for owner in changed[:2]:
            working_set.edit(owner, lambda draft: draft.set_member("avatar_extra", extra))

    # going

    def drop(self, level: str, id: str | None, cascade: Any = None) -> None:
        """Drops an item with what belongs to it, and with `cascade` what is left without."""
        if not id:
            return
        dropped = self._core.ask("register.drop", level=level, id=id, cascade=bool(cascade))["dropped"]
        for one in dropped:
            self._core.working_set().put(Key(one["level"], one["id"]), None)

    def expire_pages(self, connection_id: str) -> list[str]:
        """Drops the pages of a connection that are too old, and returns their ids."""
        old = []
        for page in self._listing.items("page", connection=connection_id):
            if age(page) > self._limit(page["user"], self.page_max_age):
                old.append(page["register_item_id"])
        for page_id in old:
            self.drop("page", page_id)
        return old

    def expire_connection(self, connection_id: str) -> bool:
        """Drops a connection that is too old. Returns whether it has done so."""
        found = self._core.working_set().get(Key("connection", connection_id))
        if found is None:
            return False
        item = item_of("connection", connection_id, found.fields)
        if age(item) <= self._limit(item["user"], self.connection_max_age):
            return False
        self.drop("connection", connection_id, cascade=True)
        return True

    def _limit(self, user: str | None, max_age: int) -> int:
        return self.guest_connection_max_age if (user or "").startswith("guest_") else max_age

    def claim_cleanup(self, min_gap_seconds: float, now: float) -> bool:
        """Returns whether the caller may clean up now: no caller has claimed it within the gap."""

        def claim(draft: Draft) -> bool:
            if now - (draft.member("last_cleanup") or 0) < min_gap_seconds:
                return False
            draft.set_member("last_cleanup", now)
            return True

        return bool(self._core.working_set().edit(GLOBAL, claim))


def _members(**values: Any) -> dict[str, str]:
    return {MEMBER + name: codec.dump(value) for name, value in values.items() if value is not None}
