"""The checks of 0015 are validated, while orders are written.

And one index less: Django makes one for LIKE on a primary key of text, and nothing asks it.
"""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations

UNUSED = "orders_swap_signature_2ae34398_like"


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("orders", "0015_short_checks")]

    operations = [
        ValidateConstraint("order", "status_fits"),
        ValidateConstraint("orderevent", "legal_move"),
        migrations.RunSQL(
            f"DROP INDEX CONCURRENTLY IF EXISTS {UNUSED}",
            f"CREATE INDEX CONCURRENTLY {UNUSED} ON orders_swap (signature varchar_pattern_ops)",
        ),
    ]
