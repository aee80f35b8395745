"""An open page of a harness, with its object.

Owns: the messages of one page, as its supervisor would send them. Never: running them (`harness`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import Error, NoObject
from ..wire import Message

if TYPE_CHECKING:
    from .harness import Harness


class OpenPage:
    """A page with a resident object. `id` is its id, and `owner` are the user, session and connection of it.

    Its methods raise Error if the object refuses the message. Each message of an async class has an event loop of its
    own, so tasks that a method leaves running end with it.
    """

    def __init__(self, harness: Harness, name: str, id: str, owner: dict[str, str]) -> None:
        self.id, self.owner = id, owner
        self._harness, self._name = harness, name
        self._open = True

    @property
    def object(self) -> Any:
        """The object. Raises NoObject if the page has none: it has ended, or its executor has died."""
        resident = self._harness.app.residents.find(self.id)
        if resident is None:
            raise NoObject(f"the page {self.id} has no object")
        return resident.object

    def call(self, method: str, params: Any = None) -> Any:
        """Calls a method and returns its result."""
        self._revive()
        return self._harness._call_page(self._name, method, params, self._ids())

    def away(self) -> None:
        """Tells the object that the page has lost its socket."""
        self._tell("away")

    def back(self, **owner: str) -> None:
        """Tells the object that the page has a socket again, perhaps of another `connection`."""
        self.owner.update(owner)
        self._tell("back")

    def move(self, why: str = "drain", **owner: str) -> Any:
        """Saves the object and restores a new one, as a planned move does. Returns what was saved.

        `owner` is what changes, for example `move("user", user="ada")` after a login.
        """
        saved = self._tell("save", why=why)
        self.owner.update(owner)
        self._send("restore", why=why, saved=saved)
        return saved

    def kill(self, why: str = "lost") -> None:
        """Loses the object, as the death of its executor does, and rebuilds it."""
        self._harness.app.residents.drop(self.id)
        self._revive(why)

    def close(self) -> None:
        """Ends the page."""
        try:
            self._tell("close")
        finally:
            self._open = False

    def _ids(self) -> dict[str, str]:
        return {**self.owner, "page": self.id}

    def _tell(self, event: str, **members: Any) -> Any:
        self._revive()
        return self._send(event, **members)

    def _revive(self, why: str = "lost") -> None:
        """Restores an object that is lost, after a crash of the harness."""
        if self._open and self._harness.app.residents.find(self.id) is None:
            self._send("restore", why=why)

    def _send(self, event: str, **members: Any) -> Any:
        if not self._open:
            raise Error("unknown", f"the page {self.id} has ended")
        message: Message = {"t": "page", "event": event, "class": self._name, "deadline_ms": 30000, **members}
        return self._harness._tell_page(message, self._ids())

    def __repr__(self) -> str:
        return f"<OpenPage {self.id} of {self._name}>"
