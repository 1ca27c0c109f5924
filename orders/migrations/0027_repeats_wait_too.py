"""A repeat is answered when its order would survive a failover, as the first answer is."""

from importlib import import_module

from django.db import migrations

before = import_module("orders.migrations.0026_by_bytes")

PLACE = """
CREATE OR REPLACE FUNCTION orders_place(owner int, wanted jsonb)
RETURNS TABLE (id text, created_at timestamptz, replayed boolean, same boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = on AS $$
#variable_conflict use_column
DECLARE
    ms bigint := floor(extract(epoch FROM statement_timestamp()) * 1000);  -- as in created_at
    stamp text := 'ord_' || lpad(ms::text, 13, '0') || '_';
    halted timestamptz;
    made text[];
    moment timestamptz;
    answers jsonb;
BEGIN
    -- Who halts trading (trading.HALT) has it alone: nothing is stored after a halt.
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
        -- As Python has sorted the suffixes, whatever the database's language makes of letters.
        SELECT array_agg(o.id ORDER BY o.id COLLATE "C"), min(o.created_at)
        INTO made, moment FROM o;
        -- All are new, as nearly always: what was inserted is the answer, nothing is read back.
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
        ) ORDER BY suffix COLLATE "C")
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
        NULL;  -- what was inserted is undone; the answers stay
    END;
    -- What is said of an order that is there already waits for a standby as its own COMMIT has: one
    -- that was given up may be seen after a restart, and be on no standby.
    PERFORM pg_logical_emit_message(true, 'orders', '');
    RETURN QUERY
        SELECT a ->> 'id', (a ->> 'created_at')::timestamptz, (a ->> 'replayed')::boolean,
               (a ->> 'same')::boolean
        FROM jsonb_array_elements(answers) WITH ORDINALITY AS answer(a, n) ORDER BY n;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0026_by_bytes")]

    operations = [migrations.RunSQL(PLACE, before.PLACE)]
