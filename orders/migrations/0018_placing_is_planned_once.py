"""Placing orders is planned once for each connection, whatever the statistics say at that moment.

PostgreSQL thought a plan of its own for each call worth its while. Without hashes, which the
engine's connections do not want for anything that has many rows, a hundred orders were compared
with each of a hundred. And an order of a name was looked for among all of its owner while the
statistics were those of an empty table: only one index has them in the order that is asked for now.
"""

from importlib import import_module

from django.db import migrations

from orders.migrations._replaced import replaced

before = import_module("orders.migrations.0008_placing")

FUNCTIONS = ("orders_place(int, jsonb)", "orders_place_each(jsonb)")
SETTINGS = {"plan_cache_mode": "force_generic_plan", "enable_hashjoin": "on"}
AGAIN = replaced(before.NAMED, "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
NAMED = """
CREATE OR REPLACE FUNCTION orders_named(owner int, name text) RETURNS SETOF orders_order
LANGUAGE sql STABLE AS $$
    (SELECT * FROM orders_order
     WHERE owner_id = owner AND client_order_id BETWEEN name AND name
     ORDER BY owner_id, client_order_id LIMIT 1)
    UNION ALL
    (SELECT * FROM orders_order
     WHERE owner IS NULL AND owner_id IS NULL AND client_order_id BETWEEN name AND name
     ORDER BY owner_id, client_order_id LIMIT 1)
$$
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0017_claim_reads_its_keys")]

    operations = [
        *(
            migrations.RunSQL(
                f"ALTER FUNCTION {function} SET {name} = {value}",
                f"ALTER FUNCTION {function} RESET {name}",
            )
            for function in FUNCTIONS
            for name, value in SETTINGS.items()
        ),
        migrations.RunSQL(NAMED, AGAIN),
    ]
