"""An application: a set of handlers and classes of resident pages.

Owns: registration by decorator, finding the object of a page, and `run`. Never: how handlers run.
"""

from __future__ import annotations

import os
from typing import Any, Callable, TypeVar, overload

from .handler import Handler, Mode, Serial
from .page import Page
from .page_class import PageClass
from .resident import Meeting, Residents

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type[Page])
Object = TypeVar("Object", bound=Page)


class App:
    """The handlers of a program.

    `slots` is how much work the child takes at a time; without it, the configuration of the pool decides. `threads` is
    how many threads run sync handlers; without it, as many as slots. `App(threads=1)` with only sync handlers runs them
    one after the other in the main thread, which is the fastest for handlers that take no time.
    """

    is_served = False
    """Whether this process serves HTTP and runs the application beside that (`--app`), so that `run` does nothing."""

    def __init__(self, *, slots: int | None = None, threads: int | None = None) -> None:
        for name, value in {"slots": slots, "threads": threads}.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} is a number from 1, not {value!r}")
        self.slots = slots
        self.threads = threads
        self.handlers: dict[str, Handler] = {}
        self.pages: dict[str, PageClass] = {}
        self.residents = Residents(self.pages)
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
        owner, _, short = handler.name.partition(".")
        if owner in self.pages and short in self.pages[owner].methods:
            raise ValueError(f"`{handler.name}` is a method of a class of pages, so no handler can have this name")
        self.handlers[handler.name] = handler
        return function

    @overload
    def page(self, type: Class, *, name: str | None = None) -> Class: ...

    @overload
    def page(self, type: None = None, *, name: str | None = None) -> Callable[[Class], Class]: ...

    def page(self, type: Any = None, *, name: str | None = None) -> Any:
        """Registers a class of resident pages: `@app.page`, or `app.page(Counter, name="Counter")`.

        The name is that of the class if none is given. Pages call a method as `Counter.add`.
        """
        if type is None:
            return lambda decorated: self.page(decorated, name=name)
        page_class = PageClass(type, name)
        known = self.pages.get(page_class.name)
        if known is not None and known.type is not type:
            raise ValueError(f"there are two classes of pages with the name `{page_class.name}`")
        for method in page_class.methods.values():
            if method.name in self.handlers:
                raise ValueError(f"`{method.name}` is a handler, so no method of a class of pages can have this name")
        self.pages[page_class.name] = page_class
        return type

    @overload
    def object(self, page: str) -> Meeting[Any]: ...

    @overload
    def object(self, page: str, type: type[Object]) -> Meeting[Object]: ...

    def object(self, page: str, type: Any = Page) -> Any:
        """Returns the object of a page of this process, for code that is no message of it, such as a view:

            with app.object(page_id, Counter) as counter:
                counter.n += 1

        No message of the page runs meanwhile, except methods with `concurrent`. In async code it is `async with`.

        Raises NoObject if the page has no object in this process, or one of another class.
        """
        return Meeting(self.residents, page, type)

    def objects(self) -> list[str]:
        """Returns the ids of the pages that have an object in this process."""
        return self.residents.pages()

    def run(self) -> None:
        """Runs the handlers: as a child if Pagewire has started this process; otherwise starts `pagewire dev`."""
        self.has_run = True
        if App.is_served:
            return
        if "PAGEWIRE_SOCKET" in os.environ:
            from .runtime import serve

            serve(self)
        else:
            from .alone import start

            start(self)
