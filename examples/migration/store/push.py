"""How a change reaches the pages that show it."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction

from .register import register

TOPIC = "store"


def publish(changes: list[dict]) -> None:
    """Publishes changes to all pages, which apply what is newer than what they show: a change may arrive twice.

    It waits for the next poll of each page. With `STORE_PUSH` the pages that have a socket receive it at once. If a
    transaction is open, that is when it has been committed.
    """
    transaction.on_commit(lambda: _publish_now(changes))


def _publish_now(changes: list[dict]) -> None:
    register().publish(changes)
    if settings.STORE_PUSH:
        from pagewire import current  # not needed before

        current().send({"topic": TOPIC}, {"changes": changes})
