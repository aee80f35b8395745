"""python manage.py restock: a program beside the site, which fills up what is nearly used up and tells the pages."""

import time

from django.core.management.base import BaseCommand

from ...models import Item
from ...push import publish
from ...register import register


class Command(BaseCommand):
    """Runs once, or with --every for as long as its supervisor lets it. It has the register and the push of the phase."""

    help = "fills up items of which few are left"

    def add_arguments(self, parser):
        parser.add_argument("--below", type=int, default=5, help="fill up items with fewer pieces, to this number")
        parser.add_argument("--every", type=float, help="do it again after so many seconds")

    def handle(self, *args, below, every, **options):
        while True:
            rows = [Item.move(item.pk, below - item.count).row() for item in Item.objects.filter(count__lt=below)]
            if rows:
                publish(rows)
                self.stdout.write(f"{len(rows)} filled up, on {len(register().pages())} pages")
            if every is None:
                return
            time.sleep(every)
