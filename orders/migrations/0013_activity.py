"""The indexes of activity.py and of the admin's list, made while orders are written.

Each takes an order in once, when it ends; the second not when it is confirmed.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("orders", "0012_claim_many")]

    operations = [
        # What is left where this was ended while it waited: an index that is not valid.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS completed", ""),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS not_confirmed", ""),
        AddIndexConcurrently(
            "order",
            models.Index(
                fields=["owner", "completed_at"],
                name="completed",
                condition=models.Q(completed_at__isnull=False),
            ),
        ),
        AddIndexConcurrently(
            "order",
            models.Index(
                fields=["status", "id"],
                name="not_confirmed",
                condition=models.Q(status__in=("failed", "cancelled", "expired")),
            ),
        ),
    ]
