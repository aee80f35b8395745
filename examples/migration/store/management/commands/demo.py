"""python manage.py demo: adds the users of `drive.py`, ann of the staff and bob."""

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Adds the users, whose passwords are known to everybody: for this example alone."""

    help = "adds the users ann and bob"

    def handle(self, *args, **options):
        users = get_user_model().objects
        if not users.filter(username="ann").exists():
            users.create_superuser("ann", password="secret of ann")
            users.create_user("bob", password="secret of bob")
