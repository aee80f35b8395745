"""What a context needs of the process that it runs in: a loop of a child, or a harness in a test.

Owns: this list. Never: an implementation (`link`, `testing.inside`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Protocol

if TYPE_CHECKING:
    from .context import AnyContext


class Port(Protocol):
    """Sends frames and requests of handlers."""

    def now(self) -> float:
        """Returns the time of `time.monotonic`."""

    def send(self, data: bytes) -> None:
        """Sends a frame whole, from any thread."""

    def poll(self) -> None:
        """Reads what has arrived, where no other thread does it."""

    def ask(self, context: AnyContext, method: str, params: Any) -> Any:
        """Sends a request and waits for its value."""

    async def ask_async(self, context: AnyContext, method: str, params: Any) -> Any:
        """Sends a request of an async handler and waits for its value."""

    def post(self, context: AnyContext, method: str, params: Any, settle: Callable[[Any], Any]) -> int:
        """Sends a request from any thread. `settle` is called with the reply, by the thread that reads it."""
