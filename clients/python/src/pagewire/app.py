"""An application: a set of handlers.

Owns: registration by decorator, and `run`. Never: how handlers run.
"""

from __future__ import annotations

import os
from typing import Any, Callable, TypeVar, overload

from .handler import Handler, Mode, Serial

Function = TypeVar("Function", bound=Callable[..., Any])


class App:
    """The handlers of a program.

    `slots` is how much work the child takes at a time; without it, the configuration of the pool decides. `threads` is
    how many threads run sync handlers; without it, as many as slots. `App(threads=1)` with only sync handlers runs them
    one after the other in the main thread, which is the fastest for handlers that take no time.
    """

    def __init__(self, *, slots: int | None = None, threads: int | None = None) -> None:
        for name, value in {"slots": slots, "threads": threads}.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is a number from 1, not {value!r}")
        self.slots = slots
        self.threads = threads
        self.handlers: dict[str, Handler] = {}
        self.has_run = False

    @overload
    def handler(self, name: Function) -> Function: ...

    @overload
    def handler(
        self,
        name: str | None = None,
        *,
        mode: Mode | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        serial: Serial | None = None,
    ) -> Callable[[Function], Function]: ...

    def handler(
        self,
        name: Any = None,
        *,
        mode: Mode | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        serial: Serial | None = None,
    ) -> Any:
        """Registers a function: `@app.handler`, `@app.handler("report")`, `@app.handler(timeout=600, retries=5)`.

        The name is that of the function if none is given. `mode` is where its work runs if the caller does not say it:
        `any` or `assigned` (the executor of the user). `timeout` is in seconds. `retries` is how often a failed job is
        tried again. `serial` is which calls run one after the other: those of a `user` or a `page`.
        """
        if callable(name):
            return self._register(Handler(name.__name__, name), name)

        def decorate(function: Function) -> Function:
            handler = Handler(name or function.__name__, function, mode, timeout, retries, serial)
            return self._register(handler, function)

        return decorate

    def _register(self, handler: Handler, function: Function) -> Function:
        known = self.handlers.get(handler.name)
        if known is not None and known.function is not function:
            raise ValueError(f"there are two handlers with the name `{handler.name}`")
        self.handlers[handler.name] = handler
        return function

    def run(self) -> None:
        """Runs the handlers: as a child if Pagewire has started this process; otherwise starts `pagewire dev`."""
        self.has_run = True
        if "PAGEWIRE_SOCKET" in os.environ:
            from .runtime import serve

            serve(self)
        else:
            from .alone import start

            start(self)
