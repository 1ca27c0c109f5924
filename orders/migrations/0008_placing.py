"""Orders are stored by one call of a function, however many: all of them, or none.

It is a function because a repeat must be looked up in a snapshot from after the wait for whoever
placed the same client order id first: within one statement PostgreSQL would not see that order.
"""

from django.db import migrations

# The order that an owner gave this name. No index answers IS NOT DISTINCT FROM; each of these two
# branches has one, and the plan skips the other.
NAMED = """
CREATE FUNCTION orders_named(owner int, name text) RETURNS SETOF orders_order
LANGUAGE sql STABLE AS $$
    SELECT * FROM orders_order WHERE owner_id = owner AND client_order_id = name
    UNION ALL
    SELECT * FROM orders_order
    WHERE owner IS NULL AND owner_id IS NULL AND client_order_id = name
$$
"""

WANTED = """jsonb_to_recordset(wanted) AS w(
            suffix text, late boolean, client_order_id text, order_type text, token_in text,
            token_out text, amount_in numeric, slippage_bps smallint, deadline_at timestamptz,
            request_id text, data jsonb)"""

# `wanted` is a JSON array of orders, ascending by suffix; the answer has a row for each, in order.
# `id` is null where an order came too late to be stored; `same` is false there, and where its
# client order id names an order that asks for something else. One such row, and nothing is stored.
# Time and order ids are this database's: the digits of an id are its created_at in milliseconds.
# Client order ids are taken in one order, and the tally last, as everywhere: nobody waits in a
# circle.
PLACE = f"""
CREATE FUNCTION orders_place(owner int, wanted jsonb)
RETURNS TABLE (id text, created_at timestamptz, replayed boolean, same boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ms bigint := floor(extract(epoch FROM statement_timestamp()) * 1000);  -- as in created_at
    stamp text := 'ord_' || lpad(ms::text, 13, '0') || '_';
    answers jsonb;
BEGIN
    BEGIN
        WITH w AS (
            SELECT stamp || suffix AS id, * FROM {WANTED}
        ), o AS (
            INSERT INTO orders_order (id, owner_id, client_order_id, order_type, token_in,
                                      token_out, amount_in, slippage_bps, deadline_at, request_id)
            SELECT id, owner, client_order_id, order_type, token_in, token_out, amount_in,
                   slippage_bps, deadline_at, request_id
            FROM w WHERE NOT late ORDER BY client_order_id, id
            ON CONFLICT DO NOTHING
            RETURNING id, created_at
        ), e AS (
            INSERT INTO orders_orderevent
                (order_id, seq, status, previous_status, attempt, created_at, data)
            SELECT id, 1, 'pending', '', 1, o.created_at, w.data FROM o JOIN w USING (id)
        )
        INSERT INTO orders_tally (kind, shard, count)
        SELECT 'placed', pg_backend_pid() % 16, count(*) FROM o HAVING count(*) > 0
        ON CONFLICT (kind, shard) DO UPDATE SET count = orders_tally.count + excluded.count;

        SELECT jsonb_agg(jsonb_build_object(
            'id', o.id, 'created_at', o.created_at, 'replayed', o.id <> stamp || suffix,
            'same', o.id IS NOT NULL
                AND (o.order_type, o.token_in, o.token_out, o.amount_in, o.slippage_bps,
                     o.deadline_at)
                IS NOT DISTINCT FROM
                    (w.order_type, w.token_in, w.token_out, w.amount_in, w.slippage_bps,
                     w.deadline_at)
        ) ORDER BY suffix)
        INTO answers
        FROM {WANTED} LEFT JOIN LATERAL (
            SELECT * FROM orders_order WHERE id = stamp || suffix
            UNION ALL
            SELECT * FROM orders_named(owner, w.client_order_id) WHERE id <> stamp || suffix
        ) o ON true;
        IF answers @> '[{{"same": false}}]' THEN
            RAISE EXCEPTION USING ERRCODE = 'OE001';
        END IF;
    EXCEPTION WHEN SQLSTATE 'OE001' THEN
        NULL;  -- what was inserted is undone; the answers stay
    END;
    RETURN QUERY
        SELECT a ->> 'id', (a ->> 'created_at')::timestamptz, (a ->> 'replayed')::boolean,
               (a ->> 'same')::boolean
        FROM jsonb_array_elements(answers) WITH ORDINALITY AS answer(a, n) ORDER BY n;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0007_access")]

    operations = [
        migrations.RunSQL(NAMED, "DROP FUNCTION orders_named"),
        migrations.RunSQL(PLACE, "DROP FUNCTION orders_place"),
    ]
