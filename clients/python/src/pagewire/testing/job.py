"""A job of a harness, and a push.

Owns: the states of a job and the delay before its next attempt. Never: running it (`harness`).
"""

from __future__ import annotations

from typing import Any

from ..errors import Error, error_of
from ..wire import Message

ENDS = ("succeeded", "failed", "cancelled", "dead")

_FIRST_DELAY, _LONGEST_DELAY = 1.0, 300.0
_LOSSES = 3
"""How often a job may be lost, unless it has more retries."""


class Push:
    """A message that a handler has sent to pages."""

    def __init__(self, to: dict[str, Any], payload: Any) -> None:
        self.to = to
        self.payload = payload

    def __repr__(self) -> str:
        return f"Push({self.to}, {self.payload!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Push) and (self.to, self.payload) == (other.to, other.payload)

    __hash__ = None  # type: ignore[assignment]


class Job:
    """A durable job of the harness. `state` is one of those of docs/jobs.md."""

    def __init__(self, id: str, kind: str, data: Any, owner: dict[str, str], retries: int, due: float) -> None:
        self.id, self.kind, self.data, self.owner, self.retries, self.due = id, kind, data, owner, retries, due
        self.state = "queued"
        self.attempts = 0
        self.failures = 0
        self.losses = 0
        self.result: Any = None
        self.error: Error | None = None
        self.progress: list[tuple[float, str | None]] = []

    @property
    def ended(self) -> bool:
        return self.state in ENDS

    def settle(self, end: Message, now: float) -> None:
        """Applies the end of an attempt at a time."""
        if end["t"] == "result":
            self.state, self.result, self.error = "succeeded", end["value"], None
        elif end["t"] == "stopped":
            self.state = "cancelled"
        elif end["t"] == "snooze":
            self.state, self.due, self.attempts = "scheduled", now + end["after_ms"] / 1000, self.attempts - 1
        elif end["t"] == "lost":
            self._lose()
        else:
            self.error = error_of(end)
            self._fail(end, now)

    def _lose(self) -> None:
        self.state, self.losses = "queued", self.losses + 1
        if self.losses > max(self.retries, _LOSSES):
            self.state, self.error = "dead", Error("lost", "its workers died while they ran it", True)

    def _fail(self, end: Message, now: float) -> None:
        self.failures += 1
        if not end["retryable"] or self.retries == 0:
            self.state = "failed"
        elif self.failures > self.retries:
            self.state = "dead"
        else:
            delay = min(_FIRST_DELAY * 2 ** (self.failures - 1), _LONGEST_DELAY)
            self.state, self.due = "scheduled", now + max(delay, end.get("after_ms", 0) / 1000)

    def describe(self) -> dict[str, Any]:
        """Returns the value of the request `job.get`."""
        described: dict[str, Any] = {"id": self.id, "kind": self.kind, "state": self.state, "attempts": self.attempts}
        if self.progress:
            described["progress"] = self.progress[-1][0]
        if self.state == "succeeded":
            described["result"] = self.result
        if self.error is not None:
            error = self.error
            described["error"] = {"code": error.code, "message": error.message, "retryable": error.retryable}
        return described

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.kind}: {self.state}>"
