"""What Genropy imports as `gnr.web.daemon.siteregister_client`.

Owns: the object that a site calls its register. Never: the verbs, which are those of `SiteRegister`.
"""

from __future__ import annotations

import os
from typing import Any, Mapping

from .channel import connect
from .core import Core
from .errors import GnrDaemonException, GnrDaemonLocked, NoDaemon
from .keys import register_name
from .listing import Item
from .page_map import PageMap
from .register import SiteRegister
from .resolver import RegisterResolver
from .sockets import PageSockets
from .standins import install_as_configured
from .stores import RemoteStoreBag, ServerStore

__all__ = ["GnrDaemonLocked", "RegisterResolver", "RemoteStoreBag", "ServerStore", "SiteRegisterClient"]


_RELEASED_MS = 500
"""How long a register beside another one waits for a lock."""


class SiteRegisterClient:
    """The register of a site in one process. Verbs that are not here are those of `siteregister`."""

    locked_exception = GnrDaemonLocked
    errors = GnrDaemonException

    def __init__(self, site: Any) -> None:
        self._connect(site)
        install_as_configured()
        # a site without sockets does not look at it
        site._wsk = PageSockets(site)

    def _connect(self, site: Any) -> None:
        self.site = site
        self.siteregister = SiteRegister(Core(connect(), register_name(site.currentDomainIdentifier), site))
        self.siteregister.setConfiguration(cleanup=site.custom_config.getAttr("cleanup"))
        os.register_at_fork(after_in_child=self.siteregister.core.forked)

    @classmethod
    def beside(cls, site: Any) -> SiteRegisterClient:
        """Returns a register that stands beside that of the site, which keeps its own sockets and its own locks."""
        found = cls.__new__(cls)
        found._connect(site)
        # the lock of the other register excludes others: here the holder before is still about to release its own
        found.siteregister.core.locks.wait_ms = _RELEASED_MS
        return found

    # items by id; those of `siteregister` are lists

    def pages(self, include_data: Any = None, **conditions: Any) -> Mapping[str, Item]:
        """Returns pages by id: of a `connection_id`, of a `user`, by `filters`."""

        def read() -> dict[str, Item]:
            return self._by_id(self.siteregister.pages(include_data=include_data is True, **conditions), include_data)

        connection = conditions.get("connection_id")
        if connection and len(conditions) == 1 and not include_data:
            return PageMap(self.siteregister.core.working_set().pages_of(connection), read)
        return read()

    def connections(self, user: str | None = None, include_data: Any = None) -> dict[str, Item]:
        """Returns connections by id."""
        return self._by_id(self.siteregister.connections(user, include_data is True), include_data)

    def users(self, include_data: Any = None) -> dict[str, Item]:
        """Returns users by name."""
        return self._by_id(self.siteregister.users(include_data is True), include_data)

    def _by_id(self, items: list[Item], include_data: Any) -> dict[str, Item]:
        if include_data == "lazy":
            items = [self._lazy(item) for item in items]
        return {item["register_item_id"]: item for item in items}

    def _lazy(self, item: Item) -> Item:
        return {**item, "data": RemoteStoreBag(self.siteregister, item["register_name"], item["register_item_id"])}

    def new_page(self, page_id: str, page: Any, data: Any = None) -> Item:
        """Registers a page of the framework."""
        item = self.siteregister.new_page(
            page_id,
            data=data,
            pagename=page.pagename,
            connection_id=page.connection_id,
            user=page.user,
            user_ip=page.user_ip,
            user_agent=page.user_agent,
            relative_url=page.request.path_info,
        )
        return self._lazy(item)

    def new_connection(self, connection_id: str, connection: Any) -> Item:
        """Registers a connection of the framework."""
        names = ("connection_name", "user", "user_id", "user_tags", "browser_name", "user_agent", "avatar_extra")
        values = {name: getattr(connection, name) for name in names}
        item = self.siteregister.new_connection(
            connection_id, user_ip=connection.ip, electron_static=connection.electron_static, **values
        )
        return self._lazy(item)

    def refresh(self, page_id: str, ts: Any = None, lastRpc: Any = None, pageProfilers: Any = None) -> Item | None:
        """Raises the times of a page. Returns its user's item."""
        return self.siteregister.refresh(page_id, last_user_ts=ts, last_rpc_ts=lastRpc)

    # stores

    def pageStore(self, page_id: Any, triggered: Any = False) -> ServerStore:
        return self.make_store("page", page_id, triggered)

    def connectionStore(self, connection_id: Any, triggered: Any = False) -> ServerStore:
        return self.make_store("connection", connection_id, triggered)

    def userStore(self, user: Any, triggered: Any = False) -> ServerStore:
        return self.make_store("user", user, triggered)

    def globalStore(self, triggered: Any = False) -> ServerStore:
        return self.make_store("global", "*", triggered)

    def make_store(self, register_name: str, register_item_id: Any, triggered: Any = None) -> ServerStore:
        return ServerStore(self, register_name, register_item_id, triggered)

    # the daemon

    @property
    def gnrdaemon_proxy(self) -> Any:
        raise NoDaemon("This page")

    def pyroProxy(self, url: Any) -> Any:
        raise NoDaemon("A register of another site")

    def dump(self) -> None:
        """Does nothing: what the register has acknowledged is kept by Pagewire."""

    def load(self) -> None:
        """Does nothing: the register is as it was left."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "siteregister":
            raise AttributeError(name)
        return getattr(self.siteregister, name)
