"""What a context needs, without a socket.

Owns: the requests and reports of handlers in a harness. Never: their answers (`harness`).
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Callable

from ..errors import Cancelled, Error
from ..wire import LIMIT, encode

if TYPE_CHECKING:
    from ..context import AnyContext
    from .harness import Harness


class Crash(BaseException):
    """The child of a piece of work has died. Each further request of the work raises it again, so that a `finally` has
    no effects.
    """


class Inside:
    """The port of a context in a harness."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def now(self) -> float:
        return self._harness.now

    def poll(self) -> None:
        self._harness.step(self._harness._running[-1])

    def send(self, data: bytes) -> None:
        message = json.loads(data[4:])
        context = next(one for one in self._harness._running if one._id == message.get("id", message.get("work")))
        self._harness.step(context)
        if message["t"] == "log":
            self._harness.logs.append({name: value for name, value in message.items() if name != "t"})
            return
        report = (message["progress"], message.get("message"))
        self._harness.progress.append(report)
        if context.job is not None:
            self._harness.jobs[context.job].progress.append(report)

    def ask(self, context: AnyContext, method: str, params: Any) -> Any:
        _check_size(params)
        self._harness.step(context)
        if context._reason is not None and not context._delivered:
            context._delivered = True
            raise Cancelled(context._reason)
        return self._harness.answer(context, method, params)

    async def ask_async(self, context: AnyContext, method: str, params: Any) -> Any:
        _check_size(params)
        self._harness.step(context)
        await asyncio.sleep(0)  # where a cancel is raised
        return self._harness.answer(context, method, params)

    def post(self, context: AnyContext, method: str, params: Any, settle: Callable[[Any], Any]) -> int:
        """Renews a lock: the clock of the test does not move meanwhile."""
        return 0


def _check_size(params: Any) -> None:
    try:
        size = len(encode(params))
    except (TypeError, ValueError) as error:
        raise Error("malformed", f"the parameters are not JSON: {error}") from None
    if size > LIMIT - 200:
        raise Error("too_large", f"the request has {size} bytes")
