"""A claim reads the orders it may take by their key, not all that wait.

The condition on them matched the partial indexes of waiting orders, and PostgreSQL's statistics,
which are older than a queue, say that nobody waits: it read the whole queue for each claim.
"""

from importlib import import_module

from django.db import migrations

from orders.migrations._replaced import replaced

before = import_module("orders.migrations.0012_claim_many")

DUE = """\
WHERE o.status = 'pending' AND o.next_attempt_at <= moment
           OR o.status IN ('routing', 'building', 'submitted') AND o.lease_until <= moment
"""
DUE_OPAQUE = """\
WHERE CASE
            WHEN o.status = 'pending' THEN o.next_attempt_at <= moment
            WHEN o.status IN ('routing', 'building', 'submitted') THEN o.lease_until <= moment
        END
"""
AGAIN = replaced(before.CLAIM_MANY, "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
CLAIM_BY_KEY = replaced(AGAIN, DUE, DUE_OPAQUE)


class Migration(migrations.Migration):
    dependencies = [("orders", "0013_activity")]

    operations = [migrations.RunSQL(CLAIM_BY_KEY, AGAIN)]
