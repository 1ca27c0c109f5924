"""A venue's name has room for any split, and a new venue is no migration.

PostgreSQL widens a varchar without rewriting the table or its indexes.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0020_never_sent")]

    operations = [
        migrations.SeparateDatabaseAndState(
            # Backwards nothing is narrowed: PostgreSQL would rewrite both tables for it.
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE orders_order ALTER venue TYPE varchar(48);"
                    "ALTER TABLE orders_swap ALTER venue TYPE varchar(48)",
                    migrations.RunSQL.noop,
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "order", "venue", models.CharField(blank=True, db_default="", max_length=48)
                ),
                migrations.AlterField("swap", "venue", models.CharField(max_length=48)),
            ],
        ),
    ]
