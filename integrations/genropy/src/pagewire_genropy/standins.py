"""Puts what a process keeps into the place of methods of Genropy, in memory.

Owns: which methods, and putting the original ones back. Never: what they keep (`kept_classes` and its neighbours).
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Callable

from . import kept_classes, kept_preferences, kept_relations
from .kept import VARIABLE, Kept, Limits, limits_of
from .kept_templates import Templates

_LOADER = "gnr.web.gnrwsgisite_proxy.gnrresourceloader"

_installed: list[Callable[[], None]] = []


def install_as_configured() -> None:
    """Keeps things between requests if the environment says so. The second call of a process does nothing.

    Raises ValueError for a setting that means nothing.
    """
    limits = limits_of(os.environ.get(VARIABLE, ""))
    if limits is not None and not _installed:
        _installed.append(install(limits))


def install(limits: Limits) -> Callable[[], None]:
    """Keeps things between requests from now on. Returns what ends that."""
    kept = Kept(limits)
    replaced: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, stand_in: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        replaced.append((owner, name, original))
        setattr(owner, name, stand_in(original))

    _keep_classes(kept, importlib.import_module(_LOADER).ResourceLoader, replace)
    replace(importlib.import_module("gnr.web.gnrwebpage"), "TemplateLookup", lambda lookup: Templates(kept, lookup))
    _keep_preferences(importlib.import_module("gnr.web.gnrwebapp"), replace)
    _keep_relations(kept, importlib.import_module("gnr.sql.gnrsqlmodel.table").DbTableObj, replace)

    def end() -> None:
        for owner, name, original in reversed(replaced):
            setattr(owner, name, original)

    return end


Replace = Callable[[Any, str, Callable[[Any], Any]], None]


def _keep_classes(kept: Kept, loader: Any, replace: Replace) -> None:
    classes = kept_classes.Classes(kept)
    for name in ("getResourceList", "page_class_resourceDirs", "plugin_webpage_classes"):
        replace(loader, name, lambda ask: lambda self, *args, **options: classes.look(ask, self, args, options))
    replace(loader, "get_page_class", lambda make: lambda self, **given: classes.page(make, self, given))
    replace(
        loader, "getResourceClass", lambda make: lambda self, *path, **given: classes.component(make, self, path, given)
    )

    def custom(mix: Any) -> Any:
        def stand_in(self: Any, page_class: Any, path: str, pkg: str | None = None) -> None:
            classes.look(kept_classes.has_custom_page, self, (path, pkg), {})
            mix(self, page_class, path, pkg=pkg)

        return stand_in

    replace(loader, "page_class_custom_mixin", custom)


def _keep_preferences(web: Any, replace: Replace) -> None:
    preferences = kept_preferences.Preferences()

    def read(original: Any) -> Any:
        def get_item(self: Any, key: str, defaultFactory: Any = None) -> Any:
            return preferences.get(original, self, key, defaultFactory)

        return get_item

    def change(original: Any) -> Any:
        def notify(self: Any, *args: Any, **options: Any) -> Any:
            preferences.forget()
            return original(self, *args, **options)

        return notify

    replace(web.WebApplicationCache, "getItem", read)
    replace(
        web.WebApplicationCache,
        "setItem",
        lambda original: lambda self, key, value: preferences.set(original, self, key, value),
    )
    replace(web.GnrWsgiWebApp, "notifyDbEvent", change)


def _keep_relations(kept: Kept, table: Any, replace: Replace) -> None:
    replace(
        table,
        "newRelationResolver",
        lambda make: lambda self, **options: kept_relations.resolver(kept, make, self, options),
    )
