"""The one end of a piece of work: the frame for a result or an exception.

Owns: the frames `result`, `error`, `stopped` and `snooze`. Never: sending them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import Cancelled, Conflict, Error, Fail, Retry, Snoozed
from .wire import LIMIT, encode, pack, plain

if TYPE_CHECKING:
    from .context import AnyContext

_PACKAGE = __file__.removesuffix("outcome.py")

MESSAGE = 4_000
"""The most characters of an error's message."""
TRACE = 32_000
"""The most characters of a traceback: its end."""


def result(context: AnyContext, value: Any, limit: int = LIMIT) -> bytes:
    """Returns the frame for the value that a handler has returned."""
    try:
        body = b'{"t":"result","id":%d,"value":%b}' % (context._id, encode(value))
    except (TypeError, ValueError, RecursionError) as cause:
        return _error(context._id, "failed", f"the result of `{context.method}` is not JSON: {_reason(value, cause)}")
    if len(body) > limit:
        text = f"the result of `{context.method}` has {len(body)} bytes as a frame; at most {limit} are possible"
        return _error(context._id, "too_large", text)
    return pack(body)


def failure(context: AnyContext, cause: BaseException) -> bytes:
    """Returns the frame for an exception that a handler has raised."""
    try:
        return _failure(context, cause)
    except Exception as error:  # a member of the exception cannot be sent, and the work has to end
        text = f"{type(cause).__name__}, which cannot be sent: {type(error).__name__}: {_text(error)}"
        return _error(context._id, "failed", text, True)


def _failure(context: AnyContext, cause: BaseException) -> bytes:
    work = context._id
    if isinstance(cause, Snoozed):
        return pack(encode({"t": "snooze", "id": work, "after_ms": _ms(cause.seconds)}))
    if isinstance(cause, Retry):
        return _error(work, "failed", cause.message, True, None if cause.after is None else _ms(cause.after))
    if isinstance(cause, Fail):
        return _error(work, cause.code, cause.message)
    if isinstance(cause, Error):
        # a conflict is resolved by running the handler again
        return _error(work, cause.code, cause.message, bool(cause.retryable) or isinstance(cause, Conflict))
    if context._reason is not None and _stops(cause):
        return stopped(work)
    text = f"{type(cause).__name__}: {_text(cause)}"
    return _error(work, "failed", text, True, trace=_traceback(cause))


def stopped(work: int) -> bytes:
    return pack(b'{"t":"stopped","id":%d}' % work)


def refused(work: int, code: str, message: str, retryable: bool = False) -> bytes:
    """Returns the frame for work that is refused before a handler runs."""
    return _error(work, code, message, retryable)


def _stops(cause: BaseException) -> bool:
    # asyncio is not imported for this: only a program that uses it can raise its exception
    return isinstance(cause, Cancelled) or type(cause).__name__ == "CancelledError"


def _error(
    work: int,
    code: str,
    message: object,
    retryable: bool = False,
    after_ms: int | None = None,
    trace: str | None = None,
) -> bytes:
    message = str(message)
    message = message if len(message) <= MESSAGE else message[:MESSAGE] + "…"
    body: dict[str, Any] = {"t": "error", "id": work, "code": _clean(code), "message": _clean(message)}
    body["retryable"] = retryable
    if after_ms is not None:
        body["after_ms"] = after_ms
    if trace is not None:
        body["trace"] = _clean(trace)
    return pack(encode(body))


def _clean(text: str) -> str:
    """Returns a text without lone surrogates, which UTF-8 does not have."""
    return str(text).encode("utf-8", "replace").decode()


def _text(cause: BaseException) -> str:
    try:
        return str(cause)
    except Exception:  # the text of an exception of the user cannot be made
        return "(no text)"


def _ms(seconds: float) -> int:
    return max(0, round(min(seconds, 1e10) * 1000))


def _traceback(cause: BaseException) -> str:
    import traceback

    try:
        # the first entries are those of the package, which has called the handler
        trace = cause.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(cause), cause, trace))
    except Exception:
        text = f"{type(cause).__name__} (its traceback cannot be printed)"
    return text if len(text) <= TRACE else "…" + text[-TRACE:]


def _reason(value: Any, cause: BaseException) -> str:
    if isinstance(cause, RecursionError):
        return "it has too many levels"
    where = None if "Circular" in _text(cause) else _locate(value, "result", 0)
    return f"{where}: {_clean(_text(cause))}" if where else _clean(_text(cause))


def _locate(value: Any, where: str, level: int) -> str | None:
    """Returns the path of the innermost value that is not JSON."""
    if level > 20:
        return None
    if isinstance(value, dict):
        children = [(item, f"{where}.{name}") for name, item in value.items()]
    elif isinstance(value, (list, tuple)):
        children = [(item, f"{where}[{index}]") for index, item in enumerate(value)]
    else:
        children = []
    for item, place in children:
        found = _locate(item, place, level + 1)
        if found:
            return found
    try:
        encode(value)
    except (TypeError, ValueError, RecursionError):
        return _locate(plain(value), where, level + 1) or where if _is_plain(value) else where
    return None


def _is_plain(value: Any) -> bool:
    try:
        plain(value)
    except Exception:
        return False
    return True
