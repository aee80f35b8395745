"""Sequences of requests that are written once for sync and async handlers.

Owns: the generators that yield a request and receive its value, and their two drivers. Never: what a sequence does.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Generator, NamedTuple, TypeVar, Union

from .errors import Error

Return = TypeVar("Return")


class Pause(NamedTuple):
    """A step that waits."""

    seconds: float


Step = Union["tuple[str, dict[str, Any]]", Pause]
Steps = Generator[Step, Any, Return]


def drive(steps: Steps[Return], ask: Callable[[str, dict[str, Any]], Any], sleep: Callable[[float], object]) -> Return:
    """Runs a sequence in a sync handler."""
    try:
        step = next(steps)
        while True:
            try:
                value = sleep(step.seconds) if isinstance(step, Pause) else ask(*step)
            except Error as error:
                step = steps.throw(error)
            else:
                step = steps.send(value)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def drive_async(
    steps: Steps[Return],
    ask: Callable[[str, dict[str, Any]], Awaitable[Any]],
    sleep: Callable[[float], Awaitable[object]],
) -> Return:
    """Runs a sequence in an async handler."""
    try:
        step = next(steps)
        while True:
            try:
                value = await (sleep(step.seconds) if isinstance(step, Pause) else ask(*step))
            except Error as error:
                step = steps.throw(error)
            else:
                step = steps.send(value)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
