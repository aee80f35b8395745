"""The exceptions of the package.

Owns: errors that a handler raises, and errors that a request of a handler or of a client raises. Never: their frames
(`outcome`).
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from datetime import timedelta

Delay = Union[float, "timedelta"]
"""Seconds, or a timedelta."""


class Error(Exception):
    """A request that was refused: `code` for programs, the text for people.

    `status` is the HTTP status if the error comes from the server API.
    """

    def __init__(self, code: str, message: str, retryable: bool = False, status: int | None = None) -> None:
        super().__init__(code, message, retryable, status)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Conflict(Error):
    """The value has been changed by another writer since it was read."""

    def __init__(self, message: str, retryable: bool = False, status: int | None = None) -> None:
        Exception.__init__(self, message, retryable, status)
        self.code = "conflict"
        self.message = message
        self.retryable = retryable
        self.status = status


class NoObject(LookupError):
    """`app.object` was asked for a page that has no object in this process."""


class Retry(Exception):
    """A handler raises it to run again later: `raise Retry(after=30, message="the bank is closed")`.

    The job is tried again, if it has retries left, not before `after`: seconds or a timedelta. Without `after` the
    server chooses the delay.
    """

    def __init__(self, after: Delay | None = None, message: str = "the handler wants to be tried again") -> None:
        super().__init__(message)
        self.after = None if after is None else seconds_of(after)
        self.message = message


class Fail(Exception):
    """A handler raises it to fail for good, with a code of its own: `raise Fail("no_stock", "sold out")`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Cancelled(BaseException):
    """The work has to stop. Like `asyncio.CancelledError` it is no `Exception`, so that `except Exception` does not
    catch it. `reason` is `cancelled`, `deadline` or `drain`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Snoozed(BaseException):
    """Ends an attempt that is put off for a delay. Raised by `ctx.snooze`."""

    def __init__(self, delay: Delay) -> None:
        super().__init__(delay)
        self.seconds = seconds_of(delay)


class BrokenWire(Exception):
    """The other side of the socket has broken the rules of frames."""


def seconds_of(delay: Delay) -> float:
    """Returns a delay in seconds.

    Raises ValueError if it is no finite number and no timedelta.
    """
    # not isinstance, because a child starts without importing datetime
    total = getattr(delay, "total_seconds", None)
    seconds: Any = delay if total is None else total()
    try:
        is_finite = isfinite(seconds)
    except (TypeError, OverflowError):
        is_finite = False
    if not is_finite:
        raise ValueError(f"a delay is a finite number of seconds or a timedelta, not {delay!r}")
    return float(seconds)


def error_of(data: Any, status: int | None = None) -> Error:
    """Returns the exception for the error object of a reply or a response."""
    if not isinstance(data, dict):
        return Error("internal", f"an error of an unknown shape: {data!r}", True, status)
    code = str(data.get("code", "internal"))
    message = str(data.get("message", code))
    retryable = bool(data.get("retryable", False))
    if code == "conflict":
        return Conflict(message, retryable, status)
    return Error(code, message, retryable, status)
