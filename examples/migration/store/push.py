"""How a change reaches the pages that show it."""

from __future__ import annotations

from .register import register


def publish(changes: list[dict]) -> None:
    """Publishes changes to all pages, which apply what is newer than what they show: a change may arrive twice.

    It waits for the next poll of each page.
    """
    register().publish(changes)
