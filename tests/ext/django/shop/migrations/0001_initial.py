"""The shop's table, and a workflow: a migration of an application finds the store."""

from typing import Any

from django.db import migrations, models


def start(apps: Any, editor: Any) -> None:
    """Start a workflow in the transaction of the migration."""
    from wfe_postgres.ext.django import using

    using().start_workflow("order", {"number": "0"}, name="of the migration")


class Migration(migrations.Migration):
    """The initial migration."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            "Order",
            fields=[
                ("number", models.TextField(primary_key=True, serialize=False)),
                ("steps", models.IntegerField(default=0)),
            ],
        ),
        migrations.RunPython(start, migrations.RunPython.noop),
    )
