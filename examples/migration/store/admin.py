"""The admin, whose changes reach the open pages as well."""

from django.contrib import admin
from django.db.models import F

from .models import Item
from .push import publish


@admin.register(Item)
class ItemAdmin(admin.ModelAdmin):
    """Items by name and count."""

    list_display = ("name", "count")

    def save_model(self, request, obj, form, change):
        obj.revision = F("revision") + 1 if change else 1
        super().save_model(request, obj, form, change)
        obj.refresh_from_db()
        publish([obj.row()])
