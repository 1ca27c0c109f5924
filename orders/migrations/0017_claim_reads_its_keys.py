"""A claim reads orders by their keys, however its plan joins them.

Planned while there were no orders, it went through all of them, and looked for each among those that
may run. It did so until PostgreSQL counted again: 420 rows with 400 waiting.
"""

from importlib import import_module

from django.db import migrations

from orders.migrations._replaced import replaced

before = import_module("orders.migrations.0014_claim_by_key")

JOINED = """\
    WITH c AS MATERIALIZED (
        SELECT o.id, o.status, o.status <> 'submitted' AS starts_over
        FROM orders_runnable(concurrency, starts, 32 + cardinality(wanted))
            WITH ORDINALITY AS r (id, rank)
        JOIN orders_order o ON o.id = r.id
        WHERE CASE
"""
BY_KEYS = """\
    WITH r AS MATERIALIZED (
        SELECT * FROM orders_runnable(concurrency, starts, 32 + cardinality(wanted))
            WITH ORDINALITY AS r (id, rank)
    ), c AS MATERIALIZED (
        SELECT o.id, o.status, o.status <> 'submitted' AS starts_over
        FROM r JOIN orders_order o ON o.id = r.id
        WHERE o.id = ANY (ARRAY(SELECT r.id FROM r)) AND CASE
"""
TAKEN = "FROM c WHERE o.id = c.id\n"
TAKEN_BY_KEYS = "FROM c WHERE o.id = c.id AND o.id = ANY (ARRAY(SELECT c.id FROM c))\n"
CLAIM = replaced(replaced(before.CLAIM_BY_KEY, JOINED, BY_KEYS), TAKEN, TAKEN_BY_KEYS)


class Migration(migrations.Migration):
    dependencies = [("orders", "0016_validated")]

    operations = [migrations.RunSQL(CLAIM, before.CLAIM_BY_KEY)]
