"""The register of a site while gnrdaemon answers and Pagewire is asked as well.

Owns: the object that a site calls its register then. Never: a comparison (`shadow_pair`).
"""

from __future__ import annotations

from typing import Any, Callable

from . import shadow_verbs
from .shadow_pair import Pair
from .shadow_stores import ShadowStore, with_both


class ShadowClient:
    """The register of a site: all that it answers is from the first one, the framework's client of gnrdaemon."""

    def __init__(self, site: Any, first: Any) -> None:
        self.site = site
        self._first = first
        self._pair = Pair(site, first)

    # stores

    def pageStore(self, page_id: Any, triggered: Any = False) -> ShadowStore:
        return self.make_store("page", page_id, triggered)

    def connectionStore(self, connection_id: Any, triggered: Any = False) -> ShadowStore:
        return self.make_store("connection", connection_id, triggered)

    def userStore(self, user: Any, triggered: Any = False) -> ShadowStore:
        return self.make_store("user", user, triggered)

    def globalStore(self, triggered: Any = False) -> ShadowStore:
        return self.make_store("global", "*", triggered)

    def make_store(self, register_name: str, register_item_id: Any, triggered: Any = None) -> ShadowStore:
        return ShadowStore(self._pair, register_name, register_item_id)

    # verbs

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._first, name)
        if name not in shadow_verbs.VERBS:
            return found
        return lambda *args, **kwargs: with_both(self._pair, self._ask(name, found, args, kwargs))

    def _ask(self, name: str, found: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def one() -> Any:
            return found(*args, **kwargs)

        def two() -> Any:
            return getattr(self._pair.second(), name)(*args, **kwargs)

        given = shadow_verbs.arguments(name, args, kwargs)
        keys = shadow_verbs.keys_of_call(given)
        if name in shadow_verbs.READS:
            levels = shadow_verbs.LISTS.get(name, ())
            return self._pair.read(name, keys, one, two, shadow_verbs.READS[name], levels)
        if name in shadow_verbs.TAKES:
            return self._pair.take(name, keys, given["page_id"], one, two)
        if name in shadow_verbs.FOLLOWS:
            follow = shadow_verbs.FOLLOWS[name]
            return self._pair.follow(name, keys, one, lambda answer: follow(self._pair.second(), given, answer))
        return self._pair.write(name, keys, one, two)
