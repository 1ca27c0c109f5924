"""Whether an order comes after its deadline is decided by the database's clock, not the web's."""

from importlib import import_module

from django.db import migrations

from orders.migrations._replaced import replaced

each = import_module("orders.migrations.0011_place_each")
before = import_module("orders.migrations.0019_placed_at_once")

# As in 0019 and 0011, without `late`: an older release still sends it.
PLACE = """
CREATE OR REPLACE FUNCTION orders_place(owner int, wanted jsonb)
RETURNS TABLE (id text, created_at timestamptz, replayed boolean, same boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = on AS $$
#variable_conflict use_column
DECLARE
    ms bigint := floor(extract(epoch FROM statement_timestamp()) * 1000);
    stamp text := 'ord_' || lpad(ms::text, 13, '0') || '_';
    halted timestamptz;
    made text[];
    moment timestamptz;
    answers jsonb;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('orders_halt'));
    halted := (SELECT halted_at FROM orders_halt WHERE resumed_at IS NULL);
    BEGIN
        WITH w AS (
            SELECT stamp || suffix AS id, * FROM jsonb_to_recordset(wanted) AS w(
                suffix text, client_order_id text, order_type text, token_in text,
                token_out text, amount_in numeric, slippage_bps smallint, deadline_at timestamptz,
                request_id text, data jsonb)
        ), o AS (
            INSERT INTO orders_order (id, owner_id, client_order_id, order_type, token_in,
                                      token_out, amount_in, slippage_bps, deadline_at, request_id)
            SELECT id, owner, client_order_id, order_type, token_in, token_out, amount_in,
                   slippage_bps, deadline_at, request_id
            FROM w
            WHERE halted IS NULL AND coalesce(deadline_at > statement_timestamp(), true)
            ORDER BY client_order_id, id
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
        SELECT array_agg(o.id ORDER BY o.id), min(o.created_at) INTO made, moment FROM o;
        IF cardinality(made) = jsonb_array_length(wanted) THEN
            RETURN QUERY SELECT new.id, moment, false, true FROM unnest(made) AS new(id);
            RETURN;
        END IF;

        SELECT jsonb_agg(jsonb_build_object(
            'id', o.id,
            'created_at', coalesce(o.created_at, CASE
                WHEN coalesce(w.deadline_at > statement_timestamp(), true) THEN halted END),
            'replayed', o.id <> stamp || suffix,
            'same', o.id IS NOT NULL
                AND (o.order_type, o.token_in, o.token_out, o.amount_in, o.slippage_bps,
                     o.deadline_at)
                IS NOT DISTINCT FROM
                    (w.order_type, w.token_in, w.token_out, w.amount_in, w.slippage_bps,
                     w.deadline_at)
        ) ORDER BY suffix)
        INTO answers
        FROM jsonb_to_recordset(wanted) AS w(
            suffix text, client_order_id text, order_type text, token_in text,
            token_out text, amount_in numeric, slippage_bps smallint, deadline_at timestamptz,
            request_id text, data jsonb)
        LEFT JOIN LATERAL (
            SELECT * FROM orders_order WHERE id = stamp || suffix
            UNION ALL
            SELECT * FROM orders_named(owner, w.client_order_id) WHERE id <> stamp || suffix
        ) o ON true;
        IF answers @> '[{"same": false}]' THEN
            RAISE EXCEPTION USING ERRCODE = 'OE001';
        END IF;
    EXCEPTION WHEN SQLSTATE 'OE001' THEN
        NULL;
    END;
    RETURN QUERY
        SELECT a ->> 'id', (a ->> 'created_at')::timestamptz, (a ->> 'replayed')::boolean,
               (a ->> 'same')::boolean
        FROM jsonb_array_elements(answers) WITH ORDINALITY AS answer(a, n) ORDER BY n;
END $$;
"""
PLACE_EACH = """
CREATE OR REPLACE FUNCTION orders_place_each(wanted jsonb)
RETURNS TABLE (id text, created_at timestamptz)
LANGUAGE plpgsql
SET lock_timeout = '200ms' SET plan_cache_mode = force_generic_plan SET enable_hashjoin = on AS $$
#variable_conflict use_column
DECLARE
    ms bigint := floor(extract(epoch FROM statement_timestamp()) * 1000);
    stamp text := 'ord_' || lpad(ms::text, 13, '0') || '_';
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('orders_halt'));
    RETURN QUERY
        WITH w AS (
            SELECT stamp || suffix AS id, * FROM jsonb_to_recordset(wanted) AS w(
                owner_id int, suffix text, client_order_id text, order_type text,
                token_in text, token_out text, amount_in numeric, slippage_bps smallint,
                deadline_at timestamptz, request_id text, data jsonb)
        ), o AS (
            INSERT INTO orders_order (id, owner_id, client_order_id, order_type, token_in,
                                      token_out, amount_in, slippage_bps, deadline_at, request_id)
            SELECT id, owner_id, client_order_id, order_type, token_in, token_out, amount_in,
                   slippage_bps, deadline_at, request_id
            FROM w
            WHERE coalesce(deadline_at > statement_timestamp(), true)
                AND NOT EXISTS (SELECT FROM orders_halt WHERE resumed_at IS NULL)
            ORDER BY client_order_id, id
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
END $$;
"""
EACH_BEFORE = replaced(
    replaced(each.PLACE_EACH, "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"),
    "SET lock_timeout = '200ms'",
    f"SET lock_timeout = '200ms' {before.PLANNED_ONCE}",
)


class Migration(migrations.Migration):
    dependencies = [("orders", "0021_venue_names")]

    operations = [
        migrations.RunSQL(PLACE, before.PLACE),
        migrations.RunSQL(PLACE_EACH, EACH_BEFORE),
    ]
