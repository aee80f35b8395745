"""Pages that stay in memory: a request of HTTP and the socket of the page meet the same object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from django.conf import settings
from django.http import HttpRequest
from pagewire import Fail, NoObject, Page, rpc

from .handlers import app
from .models import NotEnough
from .pages import StorePage
from .push import publish
from .register import Gone, Keys, register


class ResidentStorePage(StorePage):
    """A page that has been built once, when its tab began. It shows the user as of its own last move."""

    origin = "resident"


@app.page
class StoreTab(Page):
    """The object of one tab. It begins with what the register has of its page, and writes there what it changes."""

    store: StorePage | None = None

    @rpc
    def begin(self, page: str, connection: str) -> dict:
        """The tab says which page it shows."""
        try:
            self.store = ResidentStorePage(register(), Keys(page, connection, self.user or ""))
        except Gone:
            raise Fail("gone", "this page is not open any more: reload it") from None
        self.data.set("keys", list(self.store.keys))
        return self.store.shown()

    @rpc
    def act(self, method: str, params: dict) -> dict:
        """Runs a method of the page, and publishes what it has changed."""
        if self.store is None:
            raise Fail("gone", "begin with the page that is shown")
        try:
            changes = self.store.call(method, params)
        except NotEnough:
            raise Fail("not_enough", "there are not so many") from None
        except (TypeError, ValueError):
            raise Fail("malformed", "no such method, or wrong parameters") from None
        if changes:
            publish(changes)
        return self.store.shown()

    def on_restore(self, why: str) -> None:
        """Begins again in another process."""
        keys = self.data.get("keys")
        if keys is not None:
            with suppress(Gone):
                self.store = ResidentStorePage(register(), Keys(*keys))

    def on_close(self) -> None:
        """Closes the page in the register, because its tab is gone for good."""
        if self.store is not None:
            self.store.register.close(self.store.keys)


@contextmanager
def page_of(request: HttpRequest, keys: Keys) -> Iterator[StorePage]:
    """Gives a request its page: the object that its socket meets, or one that is built from the register."""
    page = request.environ["pagewire.request"].page if settings.STORE_RESIDENT else None
    with ExitStack() as stack:
        tab = None
        if page:
            try:
                tab = stack.enter_context(app.object(page.id, StoreTab))
            except NoObject:
                pass  # put aside, or at another node
        yield tab.store if tab and tab.store and tab.store.keys == keys else StorePage(register(), keys)
