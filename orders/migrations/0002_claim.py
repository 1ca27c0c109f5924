"""The functions that decide who may work on which order.

They are functions because a lock must be taken before the snapshot in which the fleet is counted:
within one statement PostgreSQL would count in the snapshot from before the wait.
"""

from django.db import migrations

ROOM = """
-- Free places, and first starts left in the last 60 seconds; a limit of 0 means no limit.
-- The window is 10 ms longer than a minute so that it also holds for timestamps cut to milliseconds.
-- Its start is a subquery: a bare clock_timestamp() would be a filter over every start there ever was.
CREATE FUNCTION orders_room(concurrency int, starts int, OUT places int, OUT starts_left int)
LANGUAGE sql STABLE AS $$
    SELECT
        CASE WHEN concurrency = 0 THEN 1000000 ELSE concurrency - (
            SELECT count(*)::int FROM orders_order
            WHERE status IN ('routing', 'building', 'submitted')
        ) END,
        CASE WHEN starts = 0 THEN 1000000 ELSE starts - (
            SELECT count(*)::int FROM (
                SELECT FROM orders_order
                WHERE started_at > (SELECT clock_timestamp() - interval '60.01 s')
                ORDER BY started_at DESC LIMIT starts
            ) recent
        ) END
$$
"""

# Abandoned orders first: they hold a place already. Then retries, which have had their start and
# need a place only. Then fresh orders, in order of creation.
RUNNABLE = """
CREATE FUNCTION orders_runnable(concurrency int, starts int, most int) RETURNS SETOF text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    room record;
    retries int;
BEGIN
    RETURN QUERY SELECT id::text FROM orders_order
        WHERE status IN ('routing', 'building', 'submitted') AND lease_until <= clock_timestamp()
        ORDER BY id LIMIT most;
    SELECT * INTO room FROM orders_room(concurrency, starts);
    RETURN QUERY SELECT id::text FROM orders_order
        WHERE status = 'pending' AND started_at IS NOT NULL
          AND next_attempt_at <= clock_timestamp()
          AND (deadline_at IS NULL OR deadline_at > clock_timestamp())
        ORDER BY id LIMIT least(greatest(room.places, 0), most);
    GET DIAGNOSTICS retries = ROW_COUNT;
    RETURN QUERY SELECT id::text FROM orders_order
        WHERE status = 'pending' AND started_at IS NULL
          AND next_attempt_at <= clock_timestamp()
          AND (deadline_at IS NULL OR deadline_at > clock_timestamp())
        ORDER BY id LIMIT least(greatest(least(room.places - retries, room.starts_left), 0), most);
END $$
"""

# The wanted order if it is among those that may run now, else the first of them: a hint is never
# wasted while there is work and room, and nobody starts before an older order that has no room.
# One claim at a time where limits hold.
CLAIM = """
CREATE FUNCTION orders_claim(wanted text, concurrency int, starts int, lease interval)
RETURNS TABLE (claimed orders_order, previous_status text)
LANGUAGE plpgsql AS $$
DECLARE
    o orders_order;
    moment timestamptz;
    candidate text;
BEGIN
    IF concurrency > 0 OR starts > 0 THEN
        PERFORM pg_advisory_xact_lock(hashtext('orders_claim'));
    END IF;
    FOR candidate IN
        SELECT id FROM orders_runnable(concurrency, starts, 32) WITH ORDINALITY r(id, rank)
        ORDER BY id <> wanted, rank
    LOOP
        SELECT * INTO o FROM orders_order
        WHERE id = candidate
          AND (status = 'pending' AND next_attempt_at <= clock_timestamp()
               OR status IN ('routing', 'building', 'submitted')
                  AND lease_until <= clock_timestamp())
        FOR NO KEY UPDATE SKIP LOCKED;
        EXIT WHEN FOUND;
    END LOOP;
    IF o.id IS NULL THEN
        RETURN;
    END IF;

    previous_status := o.status;
    moment := clock_timestamp();
    o.fence := o.fence + 1;
    o.lease_until := moment + lease;
    IF o.status <> 'submitted' THEN
        o.status := 'routing';
        o.seq := o.seq + 1;
        o.updated_at := moment;
        o.started_at := coalesce(o.started_at, moment);
        INSERT INTO orders_orderevent
            (order_id, seq, status, previous_status, attempt, created_at, data)
        VALUES (o.id, o.seq, o.status, previous_status, o.attempt, moment, '{}');
    END IF;
    UPDATE orders_order SET
        status = o.status, seq = o.seq, updated_at = o.updated_at, started_at = o.started_at,
        fence = o.fence, lease_until = o.lease_until
    WHERE id = o.id;
    claimed := o;
    RETURN NEXT;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial")]

    operations = [
        migrations.RunSQL(ROOM, "DROP FUNCTION orders_room"),
        migrations.RunSQL(RUNNABLE, "DROP FUNCTION orders_runnable"),
        migrations.RunSQL(CLAIM, "DROP FUNCTION orders_claim"),
    ]
