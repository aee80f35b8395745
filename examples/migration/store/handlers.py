"""What runs in the process of the application beside its requests: handlers for pages and programs."""

from __future__ import annotations

import os

import django
from pagewire import App, Context

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "store.settings")
django.setup()

from .models import Item  # noqa: E402

app = App()


@app.handler
def stocktake(ctx: Context) -> dict:
    """Counts all pieces; slow with many items, so it is called as a job as well."""
    items = ctx.track(list(Item.objects.all()))
    return {"pieces": sum(item.count for item in items)}
