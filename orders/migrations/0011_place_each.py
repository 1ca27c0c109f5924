"""Orders that have nothing to do with each other share a statement and its COMMIT.

What may be said about an order that this does not store is orders_place's to say, of that order
alone: no order is refused for the sake of another.
"""

from importlib import import_module

from django.db import migrations

from orders.migrations._replaced import replaced

placing = import_module("orders.migrations.0008_placing")
halt = import_module("orders.migrations.0010_halt")

WANTED = replaced(placing.WANTED, "suffix text", "owner_id int, suffix text")

# `wanted` as in orders_place, each order with its owner; the answer has a row for each order that
# was stored. One that waits for whoever is placing the same client order id does not make its
# neighbours wait long: the statement ends with 55P03, and nothing is stored.
PLACE_EACH = f"""
CREATE FUNCTION orders_place_each(wanted jsonb) RETURNS TABLE (id text, created_at timestamptz)
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
#variable_conflict use_column
DECLARE
    ms bigint := floor(extract(epoch FROM statement_timestamp()) * 1000);  -- as in created_at
    stamp text := 'ord_' || lpad(ms::text, 13, '0') || '_';
BEGIN
    {halt.SHARED}
    RETURN QUERY
        WITH w AS (
            SELECT stamp || suffix AS id, * FROM {WANTED}
        ), o AS (
            INSERT INTO orders_order (id, owner_id, client_order_id, order_type, token_in,
                                      token_out, amount_in, slippage_bps, deadline_at, request_id)
            SELECT id, owner_id, client_order_id, order_type, token_in, token_out, amount_in,
                   slippage_bps, deadline_at, request_id
            FROM w WHERE NOT late AND NOT {halt.HALTED} ORDER BY client_order_id, id
            ON CONFLICT DO NOTHING
            RETURNING id, created_at
        ), e AS (
            INSERT INTO orders_orderevent
                (order_id, seq, status, previous_status, attempt, created_at, data)
            SELECT id, 1, 'pending', '', 1, o.created_at, w.data FROM o JOIN w USING (id)
        ), t AS (
            INSERT INTO orders_tally (kind, shard, count)
            SELECT 'placed', pg_backend_pid() % 16, count(*) FROM o HAVING count(*) > 0
            ON CONFLICT (kind, shard) DO UPDATE SET count = orders_tally.count + excluded.count
        )
        SELECT o.id::text, o.created_at FROM o;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0010_halt")]

    operations = [migrations.RunSQL(PLACE_EACH, "DROP FUNCTION orders_place_each")]
