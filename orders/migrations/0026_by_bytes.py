"""A batch is answered in its order in any language, and takeovers have an end.

Where the database sorts letters before digits (cs_CZ, and in part lt_LT and et_EE) most orders of a
batch were answered with the id of another. And after 32,767 takeovers of an order that no release
can read, 15 days, every claim that came to it failed.
"""

from importlib import import_module

from django.db import migrations

claim = import_module("orders.migrations.0025_stamped_after_the_count")
place = import_module("orders.migrations.0022_late_by_one_clock")

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
    RETURN QUERY
        SELECT a ->> 'id', (a ->> 'created_at')::timestamptz, (a ->> 'replayed')::boolean,
               (a ->> 'same')::boolean
        FROM jsonb_array_elements(answers) WITH ORDINALITY AS answer(a, n) ORDER BY n;
END $$;
"""
CLAIM = """
CREATE OR REPLACE FUNCTION orders_claim(
    wanted text[], concurrency int, starts int, lease interval
) RETURNS TABLE (claimed orders_order, previous_status text)
LANGUAGE plpgsql AS $$
DECLARE
    runnable text[];
    moment timestamptz;
BEGIN
    -- One claim at a time where limits hold or an order is under suspicion (runnable.sql).
    IF concurrency > 0 OR starts > 0 OR EXISTS (
        SELECT FROM orders_order WHERE status IN ('routing', 'building') AND takeovers > 0
    ) THEN
        PERFORM pg_advisory_xact_lock(hashtext('orders_claim'));
    END IF;
    -- Who halts trading (trading.HALT) has it alone. Held until the commit, and before the count:
    -- nothing starts after a halt.
    PERFORM pg_advisory_xact_lock_shared(hashtext('orders_halt'));
    -- All of these fit the limits together. There are 32 more than are wanted: some are locked by
    -- others, and those that are wanted need not be the first.
    runnable := ARRAY(SELECT orders_runnable(concurrency, starts, 32 + cardinality(wanted)));
    -- After the count, however long that took: a start of before would be in a minute, and after an
    -- end, that were not counted.
    moment := clock_timestamp();
    RETURN QUERY
    WITH r AS MATERIALIZED (
        SELECT * FROM unnest(runnable) WITH ORDINALITY AS r (id, rank)
    ), c AS MATERIALIZED (
        -- Two conditions are there for the plan. The array has orders read by their keys, however
        -- the join is planned. The CASE hides the statuses from PostgreSQL: beside a plain
        -- condition it read a partial index, with all orders that wait.
        SELECT o.id, o.status, o.status <> 'submitted' AS starts_over
        FROM r JOIN orders_order o ON o.id = r.id
        WHERE o.id = ANY (ARRAY(SELECT r.id FROM r)) AND CASE
            WHEN o.status = 'pending' THEN o.next_attempt_at <= moment
            WHEN o.status IN ('routing', 'building', 'submitted') THEN o.lease_until <= moment
        END
        ORDER BY r.id <> ALL (wanted), rank
        LIMIT cardinality(wanted)
        FOR NO KEY UPDATE OF o SKIP LOCKED
    ), u AS (
        -- A submitted order stays so, without an event: whoever takes it over asks the chain. Only
        -- the chain's word can end it, so it is never given up. Its lease is shorter than that of
        -- what its worker was lost with: the next worker takes it first, and not both at once
        -- again. From its sixth takeover on it is longer, so that what kills its workers kills them
        -- less often; no longer than a minute allows, in which every order comes to its end.
        UPDATE orders_order o SET
            fence = o.fence + 1,
            -- One that no release can read is taken over for ever: to the end of a smallint.
            takeovers = CASE WHEN c.status = 'pending' THEN 0
                ELSE least(o.takeovers + 1, 32767) END,
            lease_until = moment + lease * CASE WHEN c.starts_over THEN 1
                ELSE 2 ^ least(greatest(o.takeovers - 4, 0), 2) * 2 / 3 END,
            status = CASE WHEN c.starts_over THEN 'routing' ELSE o.status END,
            seq = o.seq + CASE WHEN c.starts_over THEN 1 ELSE 0 END,
            updated_at = CASE WHEN c.starts_over THEN moment ELSE o.updated_at END,
            started_at = coalesce(o.started_at, moment)
        FROM c WHERE o.id = c.id AND o.id = ANY (ARRAY(SELECT c.id FROM c))
        RETURNING o AS claimed, c.status, c.starts_over
    ), e AS (
        INSERT INTO orders_orderevent
            (order_id, seq, status, previous_status, attempt, created_at, data)
        SELECT (u.claimed).id, (u.claimed).seq, 'routing', u.status, (u.claimed).attempt, moment,
               '{}'
        FROM u WHERE u.starts_over
    )
    SELECT u.claimed, u.status::text FROM u;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0025_stamped_after_the_count")]

    operations = [
        migrations.RunSQL(PLACE, place.PLACE),
        migrations.RunSQL(CLAIM, claim.CLAIM),
    ]
