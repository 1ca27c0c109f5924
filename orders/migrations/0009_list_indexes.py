"""The two indexes of the lists, made while orders are written.

They take the place of one that Django makes for LIKE on a primary key of text: nothing asks it.
"""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

UNUSED = "orders_order_id_66f898cd_like"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("orders", "0008_placing")]

    operations = [
        # What is left where this was ended while it waited: an index that is not valid.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS by_owner", ""),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS by_kind", ""),
        AddIndexConcurrently("order", models.Index(fields=["owner", "id"], name="by_owner")),
        AddIndexConcurrently(
            "order",
            models.Index(
                fields=["owner", "order_type", "status", "venue", "token_in", "token_out", "id"],
                name="by_kind",
            ),
        ),
        migrations.RunSQL(
            f"DROP INDEX CONCURRENTLY IF EXISTS {UNUSED}",
            f"CREATE INDEX CONCURRENTLY {UNUSED} ON orders_order (id varchar_pattern_ops)",
        ),
    ]
