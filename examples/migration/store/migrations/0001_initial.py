"""Makes the table of the items, with two of them."""

from django.db import migrations, models


def fill(apps, schema_editor):
    item = apps.get_model("store", "Item")
    item.objects.bulk_create([item(name="Lamp", count=40), item(name="Chair", count=12)])


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Item",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=60, unique=True)),
                ("count", models.PositiveIntegerField(default=0)),
                ("revision", models.PositiveIntegerField(default=0, editable=False)),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
