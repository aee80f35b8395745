"""What the store room has."""

from __future__ import annotations

from django.db import models, transaction
from django.db.models import F


class NotEnough(Exception):
    """There are fewer pieces than a person wants to take."""


class Item(models.Model):
    """A kind of thing, and how many pieces of it there are."""

    name = models.CharField(max_length=60, unique=True)
    count = models.PositiveIntegerField(default=0)
    # grows with each change, so that a page never shows an older state after a newer one
    revision = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def row(self) -> dict:
        """Returns what pages show of the item."""
        return {"item": self.pk, "name": self.name, "count": self.count, "revision": self.revision}

    @classmethod
    @transaction.atomic
    def move(cls, item: int, by: int) -> Item:
        """Puts pieces in, or takes them out with a negative number. Raises NotEnough.

        It returns what this change has made of the item: until it is committed nobody else changes the row.
        """
        found = cls.objects.filter(pk=item, count__gte=-by)
        if not found.update(count=F("count") + by, revision=F("revision") + 1):
            raise NotEnough(item)
        return cls.objects.get(pk=item)
