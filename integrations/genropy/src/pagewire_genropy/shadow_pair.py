"""Two registers that are asked the same: the first one answers, and the second one is compared with it.

Owns: the order in which both are asked, what happens when answers differ, and that an error of the second one harms
nobody. Never: verbs (`shadow_verbs`), what is compared of an answer (`shadow_forms`).
"""

from __future__ import annotations

import functools
import threading
import time
from typing import Any, Callable

from .draft import Draft
from .errors import NotBelowPagewire
from .keys import Key, key_of
from .shadow_adoption import Adoption
from .shadow_ahead import Entry, settle
from .shadow_forms import parts, taken
from .shadow_report import Report
from .siteregister_client import SiteRegisterClient

Ask = Callable[[], Any]

_TRIES = 3
"""How often both are asked again when they differ: a request of another process may be between both."""

_AHEAD = "ahead"
"""The member of a page with what one register has given it and the other one not yet."""


class Pair:
    """The register of the daemon and the register in Pagewire, of one site in one process."""

    def __init__(self, site: Any, first: Any) -> None:
        self.first = first
        self.report = Report()
        self._has_begun = False
        self._second: SiteRegisterClient | None = None
        try:
            self._second = SiteRegisterClient.beside(site)
            self._adoption = Adoption(first, self._second, self.report)
        except NotBelowPagewire:
            # a program beside the site, which has the daemon alone
            self._second = None
        except Exception as error:
            self.report.failed("start", "", error)
            self._second = None

    def second(self) -> SiteRegisterClient:
        """Returns the second register. Raises LookupError in a program that has only the first one."""
        if self._second is None:
            raise LookupError("this program has no second register")
        return self._second

    # asking both

    def read(
        self,
        verb: str,
        keys: list[Key],
        one: Ask,
        two: Ask,
        form: Callable[[Any], Any],
        levels: tuple[str, ...] = (),
    ) -> Any:
        """Asks for something that does not change, compares the answers, and returns the first one.

        `levels` are those of which the answer depends on all items.
        """
        is_ready = self._is_ready(verb, keys)
        answer = one()
        if is_ready:
            self._guarded(verb, keys, lambda: self._compare(verb, keys, form(answer), one, two, form, levels))
        return answer

    def write(self, verb: str, keys: list[Key], one: Ask, two: Ask) -> Any:
        """Changes something in both, and returns the answer of the first one."""
        return self.follow(verb, keys, one, lambda answer: two())

    def follow(self, verb: str, keys: list[Key], one: Ask, act: Callable[[Any], Any]) -> Any:
        """Asks the first one, and has the second one do what the answer says."""
        is_ready = self._is_ready(verb, keys)
        answer = one()
        if is_ready:
            self._guarded(verb, keys, lambda: act(answer))
        return answer

    def take(self, verb: str, keys: list[Key], page_id: str, one: Ask, two: Ask) -> Any:
        """Takes what waits for a page and its children from both, and returns what the first one gave."""
        is_ready = self._is_ready(verb, keys)
        answer = one()
        if is_ready:
            self._guarded(verb, keys, lambda: self._compare_taken(verb, keys, page_id, answer, two()))
        return answer

    def finish(self, verb: str, keys: list[Key], two: Ask) -> None:
        """Ends something in the second one that has begun there, also if that one has failed since then."""
        if self._second is not None:
            self._guarded(verb, keys, two)

    # comparing

    def _compare(
        self,
        verb: str,
        keys: list[Key],
        mine: Any,
        one: Ask,
        two: Ask,
        form: Callable[[Any], Any],
        levels: tuple[str, ...],
    ) -> None:
        other = form(two())
        tries = 0
        while mine != other and tries < _TRIES:
            tries += 1
            for level in levels:
                self._adoption.sweep(level)
            self.second().siteregister.core.working_set().forget_all()
            mine, other = form(one()), form(two())
        self.report.compared(verb)
        if mine != other:
            self._differs(verb, keys, *parts(mine, other))

    def _differs(self, verb: str, keys: list[Key], mine: str, other: str) -> None:
        self.report.differs(verb, _named(keys), mine, other)
        self._adoption.mistrust(keys)

    def _compare_taken(self, verb: str, keys: list[Key], page_id: str, one: Any, two: Any) -> None:
        mine, other = taken(page_id, one), taken(page_id, two)
        self.report.compared(verb)
        if mine is None or other is None:
            if mine is not other:
                self._differs(verb, keys, f"the page is {_known(mine)}", f"it is {_known(other)}")
            return
        for page in {**mine, **other}:
            late = self._settle(page, mine.get(page, []), other.get(page, []))
            for is_first, _, text, _ in late:
                self.report.differs(verb, f"page {page}", *((text, "nothing") if is_first else ("nothing", text)))

    def _settle(self, page_id: str, mine: list[Any], other: list[Any]) -> list[Entry]:
        """Keeps with the page what its twin is missing of. Returns what has waited too long for it."""
        working_set, key = self.second().siteregister.core.working_set(), key_of("page", page_id)
        view = working_set.view(key)
        waiting = view.member(_AHEAD) if view is not None else None
        if not waiting and not settle((), mine, other, 0.0)[0]:
            return []

        def change(draft: Draft) -> list[Entry]:
            ahead, late = settle(draft.member(_AHEAD) or (), mine, other, time.time())
            draft.set_member(_AHEAD, ahead or None)
            return late

        return working_set.edit(key, change) or []

    # the second register harms nobody

    def _is_ready(self, verb: str, keys: list[Key]) -> bool:
        """Returns whether the second register can be asked about these items: it has them if the first one has."""
        if self._second is None or not self._second.siteregister.core.channel.is_open():
            return False
        if not self._has_begun:
            self._has_begun = True
            threading.Thread(target=self._begin, name="shadow", daemon=True).start()
        return self._guarded(verb, keys, lambda: self._adoption.ensure_all(keys))

    def _begin(self) -> None:
        """Copies users and connections that have no open page, so that they stay logged in. No request waits for it."""
        for level in ("user", "connection"):
            self._guarded("begin", [], functools.partial(self._adoption.sweep, level))

    def _guarded(self, verb: str, keys: list[Key], act: Callable[[], Any]) -> bool:
        """Does something with the second register. Returns whether there was no error."""
        try:
            act()
        except Exception as error:
            self.report.failed(verb, _named(keys), error)
            self._adoption.mistrust(keys)
            return False
        return True


def _named(keys: list[Key]) -> str:
    return " ".join(f"{key.level} {key.id}" for key in keys)


def _known(answer: Any) -> str:
    return "unknown" if answer is None else "known"
