"""Threads that want an order at the same moment claim together: the fleet is counted once."""

from importlib import import_module

from django.db import migrations

before = import_module("orders.migrations.0010_halt")

# As in 0010, for many: those of the wanted orders that may run now, then the first of the others,
# as many as were wanted. All that may run now fit the limits together.
CLAIM_MANY = f"""
CREATE FUNCTION orders_claim(wanted text[], concurrency int, starts int, lease interval)
RETURNS TABLE (claimed orders_order, previous_status text)
LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz;
BEGIN
    IF concurrency > 0 OR starts > 0 OR EXISTS (
        SELECT FROM orders_order WHERE status IN ('routing', 'building') AND takeovers > 0
    ) THEN
        PERFORM pg_advisory_xact_lock(hashtext('orders_claim'));
    END IF;
    {before.SHARED}
    moment := clock_timestamp();
    RETURN QUERY
    WITH c AS MATERIALIZED (
        SELECT o.id, o.status, o.status <> 'submitted' AS starts_over
        FROM orders_runnable(concurrency, starts, 32 + cardinality(wanted))
            WITH ORDINALITY AS r (id, rank)
        JOIN orders_order o ON o.id = r.id
        WHERE o.status = 'pending' AND o.next_attempt_at <= moment
           OR o.status IN ('routing', 'building', 'submitted') AND o.lease_until <= moment
        ORDER BY r.id <> ALL (wanted), rank
        LIMIT cardinality(wanted)
        FOR NO KEY UPDATE OF o SKIP LOCKED
    ), u AS (
        UPDATE orders_order o SET
            fence = o.fence + 1,
            takeovers = CASE WHEN c.status = 'pending' THEN 0 ELSE o.takeovers + 1 END,
            lease_until = moment + lease * CASE WHEN c.starts_over THEN 1
                ELSE 2 ^ least(greatest(o.takeovers - 4, 0), 8) END,
            status = CASE WHEN c.starts_over THEN 'routing' ELSE o.status END,
            seq = o.seq + CASE WHEN c.starts_over THEN 1 ELSE 0 END,
            updated_at = CASE WHEN c.starts_over THEN moment ELSE o.updated_at END,
            started_at = coalesce(o.started_at, moment)
        FROM c WHERE o.id = c.id
        RETURNING o AS claimed, c.status, c.starts_over
    ), e AS (
        INSERT INTO orders_orderevent
            (order_id, seq, status, previous_status, attempt, created_at, data)
        SELECT (u.claimed).id, (u.claimed).seq, 'routing', u.status, (u.claimed).attempt, moment,
               '{{}}'
        FROM u WHERE u.starts_over
    )
    SELECT u.claimed, u.status::text FROM u;
END $$
"""

# For the workers of the release before.
CLAIM = """
CREATE OR REPLACE FUNCTION orders_claim(wanted text, concurrency int, starts int, lease interval)
RETURNS TABLE (claimed orders_order, previous_status text)
LANGUAGE sql AS $$
    SELECT * FROM orders_claim(ARRAY[wanted], concurrency, starts, lease)
$$
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0011_place_each")]

    operations = [
        migrations.RunSQL(CLAIM_MANY, "DROP FUNCTION orders_claim(text[], int, int, interval)"),
        migrations.RunSQL(CLAIM, before.CLAIM),
    ]
