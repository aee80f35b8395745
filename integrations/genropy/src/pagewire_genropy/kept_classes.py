"""The classes of pages and components, which Genropy puts together from their mixins for each request.

Owns: when a class is current, and that each request has a copy of its own. Never: putting a class together, and
objects of pages: a page belongs to its request, and is made for each one.

A class follows from modules, which a process imports once, and from which files exist. The looks at the file system are
noted while a class is made, and are repeated to see whether it is current.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from typing import Any, Callable, Hashable, NamedTuple

from gnr.core.gnrlang import gnrImport

from .kept import Kept

LOOKED_EVERY = 1.0
"""Seconds for which a class is believed to be current."""

_OWN = ("css_requires", "js_requires", "resourceDirs", "struct_namespaces", "tpldirectories")
"""Members that Genropy makes for each class, and that a page changes."""


class Look(NamedTuple):
    """A question about files: a function of the loader with its arguments, and the answer that a class is made with."""

    ask: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]
    answer: Any

    def is_same(self, loader: Any) -> bool:
        return bool(self.ask(loader, *self.args, **self.options) == self.answer)


class _Made:
    """A class as it was made, which no request changes."""

    def __init__(self, kind: type, looks: list[Look]) -> None:
        self.kind = kind
        self._looks = looks
        self._looked = time.monotonic()

    def is_current(self, loader: Any) -> bool:
        now = time.monotonic()
        if now - self._looked >= LOOKED_EVERY:
            if not all(look.is_same(loader) for look in self._looks):
                return False
            self._looked = now
        return True


class Classes:
    """The classes of one process."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._thread = threading.local()

    def page(self, make: Callable[..., type], loader: Any, given: dict[str, Any]) -> type:
        """Returns the class of a page. `make` is the method of the loader that makes it."""
        if given.get("avoid_module_cache"):
            self._kept.clear()  # a module is imported again
            return make(loader, **given)
        key = _page_key(loader, given)
        return make(loader, **given) if key is None else self._get(key, loader, lambda: make(loader, **given))

    def component(self, make: Callable[..., type], loader: Any, path: tuple[str, ...], given: dict[str, Any]) -> type:
        """Returns the class of a component."""
        package = given.get("pkg")
        folders = () if package else tuple(given["page"].resourceDirs)
        key = ("component", path, package, given.get("pkgOnly"), given.get("pluginId"), folders)
        return self._get(key, loader, lambda: make(loader, *path, **given))

    def look(self, ask: Callable[..., Any], loader: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Asks the loader for files, and notes the answer for the class that this thread makes."""
        answer = ask(loader, *args, **options)
        looks = getattr(self._thread, "looks", None)
        if looks is not None:
            # copies, because Genropy turns lists around
            looks.append(Look(ask, tuple(map(_copied, args)), dict(options), _copied(answer)))
        return answer

    def _get(self, key: Hashable, loader: Any, make: Callable[[], type]) -> type:
        made = self._kept.get(key)
        if made is None or not made.is_current(loader):
            made = self._make(make)
            self._kept.put(key, made)
        return copy_of(made.kind)

    def _make(self, make: Callable[[], type]) -> _Made:
        outer: list[Look] | None = getattr(self._thread, "looks", None)
        own: list[Look] = []
        self._thread.looks = own
        try:
            return _Made(make(), own)
        finally:
            self._thread.looks = outer
            if outer is not None:
                outer.extend(own)


def copy_of(kind: type) -> type:
    """Returns a class that a request may change."""
    members = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    for name in _OWN:
        if isinstance(members.get(name), (list, set)):
            members[name] = copy.copy(members[name])
    for name, value in members.items():
        if name.endswith("_proxyclass") and isinstance(value, type):
            members[name] = copy_of(value)
    return type(kind.__name__, kind.__bases__, members)


def has_custom_page(loader: Any, relpath: str, package: str | None) -> bool:
    """Returns whether the instance has a file of its own for a page."""
    if not package:
        return False
    return os.path.isfile(os.path.join(loader.gnrapp.customFolder, package, "webpages", relpath))


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def _page_key(loader: Any, given: dict[str, Any]) -> Hashable | None:
    """Returns what the class of a page depends on beside files, or None for a page without a class of its own.

    The module of the page names the package for some requests, as `ResourceLoader.get_page_class` asks it.
    """
    path = os.path.join(given["basepath"], given["relpath"])
    module = gnrImport(path, avoidDup=True, silent=False)
    custom = getattr(module, "GnrCustomWebPage", None)
    if custom is None:
        return None
    package = given.get("pkg")
    if hasattr(custom, "getMainPackage"):
        asked: dict[str, Any] = given.get("request_kwargs") or {}
        arguments: dict[str, Any] = {}
        if "page_id" in asked:
            arguments = loader.site.register.pageStore(asked["page_id"]).getItem("pageArgs") or {}
            arguments.update(asked)
        package = custom.getMainPackage(request_args=given.get("request_args"), request_kwargs=arguments)
    return ("page", path, module, given.get("pkg"), package, given.get("page_factory"))
