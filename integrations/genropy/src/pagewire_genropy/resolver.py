"""The tree of users, connections and pages that tools of developers show.

Owns: its shape. Never: the items.
"""

from __future__ import annotations

from typing import Any

from gnr.core.gnrbag import Bag, BagResolver

from .listing import Item, age


class RegisterResolver(BagResolver):  # type: ignore[misc]
    """Reads the users, the connections of a user, or the pages of a connection, when its value is used."""

    classKwargs = {"cacheTime": 1, "readOnly": False, "user": None, "connection_id": None, "_page": None}
    classArgs = ["user"]

    def load(self) -> Any:
        """Returns the items one level below."""
        register = self._page.site.register
        if self.connection_id:
            return self._pages(register.pages(connection_id=self.connection_id))
        if self.user:
            return self._connections(register.connections(user=self.user))
        return self._users(register.users())

    def _users(self, users: dict[str, Item]) -> Any:
        found = Bag()
        for name, item in users.items():
            below = RegisterResolver(name, _page=self._page)
            found.addItem(name.replace(".", "_"), self._entry(item, below), user=name)
        return found

    def _connections(self, connections: dict[str, Item]) -> Any:
        found = Bag()
        for connection_id, item in connections.items():
            below = RegisterResolver(user=self.user, connection_id=connection_id, _page=self._page)
            label = f"{item['connection_name']} ({round(age(item))})".replace(".", "_")
            found.addItem(label, self._entry(item, below), user=self.user, connection_id=connection_id)
        return found

    def _pages(self, pages: dict[str, Item]) -> Any:
        found = Bag()
        for page_id, item in pages.items():
            label = f"{item['pagename']} ({round(age(item))})".replace(".py", "").replace(".", "_")
            data = self._page.site.register.pageStore(page_id).getItem("")
            found.addItem(label, self._entry(item, data), page_id=page_id, connection_id=item["connection_id"])
        return found

    def _entry(self, item: Item, below: Any) -> Any:
        entry = Bag()
        entry["info"] = Bag({name: value for name, value in item.items() if name != "datachanges"})
        entry["item"] = below
        return entry

    def resolverSerialize(self) -> dict[str, Any]:
        """Returns what the resolver is made from again, without the page."""
        attributes: dict[str, Any] = super().resolverSerialize()
        attributes["kwargs"].pop("_page", None)
        return attributes
