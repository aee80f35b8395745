"""What a site sends to the sockets of its pages.

Owns: the commands of Genropy's `site.wsk`, as changes that are published. Never: sockets; a node has them, and fetches
what is published for their pages (`Ping.push`). A page without a socket receives the same with its next poll.
"""

from __future__ import annotations

from typing import Any

from .changes import DataChange
from .errors import NotOverSockets


class PageSockets:
    """The sockets of the pages of one site, on all nodes. It stands in for the framework's `WsgiWebSocketHandler`."""

    def __init__(self, site: Any) -> None:
        self._site = site

    def checkSocket(self) -> bool:
        """Returns whether pages may open sockets."""
        return True

    def setInClientData(
        self,
        page_id: Any,
        path: Any = None,
        value: Any = None,
        nodeId: Any = None,
        attributes: dict[str, Any] | None = None,
        fired: Any = None,
        reason: str | None = None,
        noTrigger: Any = None,
    ) -> None:
        """Sets a value in the client of pages. A path is that of the page: `nodeId` and `noTrigger` have no meaning, as
        without sockets.
        """
        self._send(page_id, DataChange(path, value, attributes, reason, bool(fired)))

    def fireInClientData(self, page_id: Any, path: Any = None, data: Any = None) -> None:
        """Sets a value and then nothing, so that what follows the path runs."""
        self._send(page_id, DataChange(path, data, fired=True))

    def publishToClient(
        self,
        page_id: Any,
        topic: Any = None,
        data: Any = None,
        nodeId: Any = None,
        iframe: Any = None,
        parent: Any = None,
    ) -> None:
        """Publishes a topic in the client of pages."""
        named = {"nodeId": nodeId, "iframe": iframe, "parent": parent}
        value = {"topic": topic, "kw": data, **{name: given for name, given in named.items() if given}}
        self._send(page_id, DataChange("gnr.publisher", value, fired=True))

    def sendCommandToPage(self, page_id: Any, command: str, data: Any) -> None:
        """Sends a command of the framework. The announcement of a new page is not needed: its item is in the register.

        Raises NotOverSockets for commands that are no changes of data.
        """
        if command == "registerNewPage":
            return
        if command not in ("setInClientData", "set", "publish"):
            raise NotOverSockets(command)
        given = dict(data.items())
        if command == "setInClientData":
            self.setInClientData(page_id, **given)
        elif command == "publish":
            self.publishToClient(page_id, **given)
        else:
            self._send(page_id, DataChange(given["path"], given.get("data"), fired=bool(given.get("fired"))))

    def sendCommandToRemoteService(
        self, remote_service: Any = None, command: str | None = None, data: Any = None
    ) -> None:
        """Raises NotOverSockets: no service is connected."""
        raise NotOverSockets(command)

    def _send(self, page_id: Any, change: DataChange) -> None:
        delivery, pages = self._site.register.delivery, _pages(page_id)
        if "*" in pages:
            delivery.send_to_all([change])
        else:
            delivery.send([change], pages)


def _pages(page_id: Any) -> list[str]:
    """Returns the pages that the framework names: one, several in a list or with commas, or `*`."""
    named = page_id if isinstance(page_id, (list, tuple)) else str(page_id or "").split(",")
    return [page for page in named if page]
