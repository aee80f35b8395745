"""The register of a site, as the framework and its packages ask for it.

Owns: the verbs and their arguments. Never: what they do, which is in the modules named in `SiteRegister`.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from gnr.core.gnrbag import Bag
from gnr.core.gnrclasses import GnrClassCatalog

from . import codec
from .changes import DataChange
from .commands import Commands
from .core import Core
from .delivery import Delivery, changes_of
from .draft import Draft
from .errors import GnrDaemonLocked
from .events import Events
from .fields import item_of
from .keys import Key, key_of
from .lifecycle import Lifecycle
from .listing import Item, Listing
from .ping import Ping
from .stores import RemoteStoreBag, empty_queue, queue_of

_log = logging.getLogger("gnr.web")


class SiteRegister:
    """The items of one site or of one domain of a site. Errors are raised, never turned into None."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._listing = Listing(core)
        self._life = Lifecycle(core, self._listing)
        self._events = Events(core, self._listing)
        self._commands = Commands(core)
        self._catalog = GnrClassCatalog()
        self.delivery = Delivery(core, self._listing)
        self._ping = Ping(core, self.delivery, self._from_typed)

    def setConfiguration(self, cleanup: dict[str, Any] | None = None) -> None:
        """Takes the ages of pages and connections from the site's configuration."""
        self._life.configure(cleanup or {})

    def born_with(self, fields: dict[str, Any]) -> None:
        """Gives these fields of the register, which Genropy does not see, to each item that is created from now on."""
        self._life.born_with(fields)

    # items

    def get_item(
        self, register_item_id: Any, include_data: bool | str | None = False, register_name: str | None = None
    ) -> Item | None:
        """Returns an item or None. `include_data`: True for a copy of its data, `lazy` for one that reads when used."""
        key = key_of(register_name, register_item_id)
        view = self.core.working_set().view(key)
        if key is None or view is None:
            return None
        item = self._item(view)
        if include_data == "lazy":
            item["data"] = RemoteStoreBag(self, key.level, key.id)
        elif include_data:
            item["data"] = codec.copied(view.read("getItem", ("",), {}))
        return item

    def _item(self, view: Draft) -> Item:
        item = item_of(view.key.level, view.key.id, view.base.fields)
        item["subscribed_paths"] = set(view.member("subscribed_paths") or ())
        item["datachanges"] = queue_of(view) if view.key.level == "user" else []
        item["datachanges_idx"] = view.member("idx") or 0
        if view.key.level == "page":
            item["subscribed_tables"] = list(view.member("tables") or ())
        if view.key.level in ("user", "connection"):
            item["avatar_extra"] = codec.copied(view.member("avatar_extra"))
        return item

    def page(self, page_id: Any, include_data: bool | str | None = None) -> Item | None:
        return self.get_item(page_id, include_data, "page")

    def connection(self, connection_id: Any, include_data: bool | str | None = None) -> Item | None:
        return self.get_item(connection_id, include_data, "connection")

    def user(self, user: Any, include_data: bool | str | None = None) -> Item | None:
        return self.get_item(user, include_data, "user")

    def exists(self, register_item_id: Any, register_name: str | None = None) -> bool:
        return self.core.working_set().get(key_of(register_name, register_item_id)) is not None

    def pages(
        self,
        connection_id: str | None = None,
        user: str | None = None,
        index_name: str | None = None,
        filters: str | None = None,
        include_data: Any = None,
    ) -> list[Item]:
        """Returns pages. `index_name` is a table that they subscribe."""
        found = self._listing.pages(connection_id, user, filters, bool(include_data))
        if index_name is None:
            return found
        items = [self.get_item(page["register_item_id"], include_data, "page") for page in found]
        return [item for item in items if item is not None and index_name in item["subscribed_tables"]]

    def connections(self, user: str | None = None, include_data: Any = None) -> list[Item]:
        return self._listing.items("connection", bool(include_data), user=user)

    def users(self, include_data: Any = None) -> list[Item]:
        return self._listing.items("user", bool(include_data))

    def counters(self) -> dict[str, int]:
        return {"users": len(self.users()), "connections": len(self.connections()), "pages": len(self.pages())}

    # life

    def new_connection(self, connection_id: str, **values: Any) -> Item:
        return self._life.new_connection(connection_id, values)

    def new_page(self, page_id: str, data: Any = None, **values: Any) -> Item:
        return self._life.new_page(page_id, values, data)

    def change_connection_user(self, connection_id: str, **values: Any) -> None:
        self._life.change_connection_user(connection_id, values)

    def drop_page(self, page_id: str | None, cascade: Any = None) -> None:
        self._life.drop("page", page_id, cascade)

    def drop_connection(self, connection_id: str | None, cascade: Any = None) -> None:
        self._life.drop("connection", connection_id, cascade)

    def drop_user(self, user: str | None) -> None:
        self._life.drop("user", user)

    def expire_pages(self, connection_id: str) -> list[str]:
        return self._life.expire_pages(connection_id)

    def expire_connection(self, connection_id: str) -> bool:
        return self._life.expire_connection(connection_id)

    def claim_cleanup(self, min_gap_seconds: float) -> bool:
        return self._life.claim_cleanup(min_gap_seconds, time.time())

    # locks

    def lock_item(self, register_item_id: Any, reason: Any = None, register_name: str | None = None) -> bool:
        """Locks an item for this thread. Returns False if another one has it for 10 s. `reason` has no meaning."""
        key = key_of(register_name, register_item_id)
        try:
            if key is not None:
                self.core.working_set().enter(key)
        except GnrDaemonLocked:
            return False
        return True

    def unlock_item(self, register_item_id: Any, reason: Any = None, register_name: str | None = None) -> None:
        key = key_of(register_name, register_item_id)
        if key is not None:
            self.core.working_set().leave(key)

    # data changes

    def handle_ping(
        self,
        page_id: str | None = None,
        reason: Any = None,
        _serverstore_changes: dict[str, Any] | None = None,
        _children_pages_info: dict[str, dict[str, Any]] | None = None,
        _lastUserEventTs: Any = None,
        _lastRpc: Any = None,
        position: Any = None,
        **_: Any,
    ) -> Any:
        """Answers the poll of a page, or returns False if it is unknown.

        `push` is the reason of a node that fetches what it sends to the page over its socket.
        """
        if reason == "push":
            return self._ping.push(page_id, position)
        return self._ping.answer(page_id, _serverstore_changes, _children_pages_info, _lastUserEventTs, _lastRpc)

    def refresh(
        self, page_id: str | None, last_user_ts: Any = None, last_rpc_ts: Any = None, pageProfilers: Any = None
    ) -> Item | None:
        return self._ping.item(self._ping.refresh([(page_id, last_user_ts, last_rpc_ts)]))

    def set_serverstore_changes(self, page_id: str, datachanges: dict[str, Any] | None = None) -> None:
        self._ping.set_serverstore_changes(page_id, datachanges)

    def subscription_storechanges(self, user: str | None, page_id: str) -> list[DataChange]:
        return self.delivery.take(user, page_id)

    def setStoreSubscription(
        self, page_id: str, storename: str | None = None, client_path: str | None = None, active: Any = None
    ) -> None:
        """Switches on or off that a page receives the changes of a store below a path."""
        path = f"_subscriptions.{storename}"

        def subscribe(draft: Draft) -> None:
            states = codec.copied(draft.read("getItem", (path,), {})) or {}
            states.setdefault(client_path, {})["on"] = active
            draft.apply("setItem", (path, states), {})

        self.core.working_set().edit(key_of("page", page_id), subscribe)

    def setInClientData(
        self,
        path: Any,
        value: Any = None,
        attributes: dict[str, Any] | None = None,
        page_id: str | None = None,
        filters: str | None = None,
        fired: Any = False,
        reason: str | None = None,
        public: Any = False,
        replace: Any = False,
        register_name: str = "page",
    ) -> None:
        is_bag = hasattr(path, "getNodes")
        sent = changes_of(path) if is_bag else [DataChange(path, value, attributes, reason, fired)]
        self.delivery.set_in_client(sent, page_id, filters)

    def set_datachange(
        self,
        register_item_id: Any,
        path: str,
        value: Any = None,
        attributes: dict[str, Any] | None = None,
        fired: Any = False,
        reason: str | None = None,
        replace: Any = False,
        delete: Any = False,
        register_name: str = "page",
    ) -> None:
        change = DataChange(path, value, attributes, reason, fired, bool(delete), bool(replace))
        self.delivery.set_datachange(register_item_id, change, register_name)

    def drop_datachanges(self, register_item_id: Any, path: str, register_name: str = "page") -> None:
        self.delivery.drop(register_item_id, path, register_name)

    def reset_datachanges(self, register_item_id: Any, register_name: str = "page") -> Item | None:
        if register_name == "page":
            self.delivery.reset(register_item_id)
        elif register_name == "user":
            self.core.working_set().edit(key_of("user", register_item_id), empty_queue)
        return self.get_item(register_item_id, register_name=register_name)

    def datachanges(self, key: Key | None) -> list[DataChange]:
        """Returns the changes that wait in the store of a user."""
        view = self.core.working_set().view(key)
        return queue_of(view) if view is not None else []

    def subscribe_path(self, register_item_id: Any, path: str, register_name: str = "page") -> None:
        self.core.working_set().edit(key_of(register_name, register_item_id), lambda draft: _subscribe(draft, path))

    def setPendingContext(self, page_id: str, pendingContext: Any, register_name: str = "page") -> None:
        """Writes values of a page, and sends later changes of them to its client."""
        given = codec.copied(list(pendingContext))

        def write(draft: Draft) -> None:
            for path, value, attributes in codec.copied(given):
                draft.apply("setItem", (path, value, attributes), {})
                _subscribe(draft, path)

        self.core.working_set().edit(key_of("page", page_id), write)

    def get_dbenv(self, page_id: Any, register_name: str = "page") -> Any:
        """Returns the environment of the database: `dbenv`, `rootenv`, and each node with an attribute `dbenv`."""
        view = self.core.working_set().view(key_of(register_name, page_id))
        if view is None:
            return Bag()
        data = codec.copied(view.read("getItem", ("",), {}))
        found = data.getItem("dbenv") or Bag()
        found.update(data.getItem("rootenv") or Bag())

        def add(node: Any, **_: Any) -> None:
            name = node.attr.get("dbenv")
            if name:
                found[node.label if name is True else name] = node.value

        data.walk(add)
        return found

    # tables

    def subscribeTable(
        self, page_id: str, table: str | None = None, subscribe: Any = None, subscribeMode: Any = None
    ) -> None:
        if table:
            self._events.subscribe(page_id, table, subscribe)

    def filter_subscribed_tables(self, table_list: Any, register_name: str = "page") -> list[str]:
        return self._events.subscribed(table_list)

    def notifyDbEvents(
        self,
        dbeventsDict: dict[str, Any] | None = None,
        origin_page_id: str | None = None,
        dbevent_reason: str | None = None,
        register_name: str = "page",
    ) -> None:
        self._events.notify(dbeventsDict or {}, origin_page_id, dbevent_reason)

    # processes

    def pendingProcessCommands(self) -> list[Any]:
        return self._commands.pending()

    def sendProcessCommand(self, command: Any, pid: int | None = None) -> None:
        self._commands.send(command, pid)

    def on_reloader_restart(self) -> None:
        _log.info("the reloader restarts the site")

    def on_site_stop(self) -> None:
        _log.info("the site stops")

    def _from_typed(self, value: Any) -> Any:
        return self._catalog.fromTypedText(value) if isinstance(value, str) else value


def _subscribe(draft: Draft, path: str) -> None:
    paths = draft.member("subscribed_paths") or ()
    if path not in paths:
        draft.set_member("subscribed_paths", [*paths, path])
