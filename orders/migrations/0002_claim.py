"""The functions that decide who may work on which order.

They are functions because a lock must be taken before the snapshot in which the fleet is counted:
within one statement PostgreSQL would count in the snapshot from before the wait.
"""

from django.db import migrations

ROOM = """
-- Free places, and first starts left in the last 60 seconds; a limit of 0 means no limit.
-- The window is 10 ms longer than a minute so that it also holds for timestamps cut to milliseconds.
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
                WHERE started_at > clock_timestamp() - interval '60.01 s'
                ORDER BY started_at DESC LIMIT starts
            ) recent
        ) END
$$
"""

# Fresh orders start in order of creation; a retry waits for older retries only, because it has had
# its start and must not wait for the window of starts.
MAY_START = """
CREATE FUNCTION orders_may_start(o orders_order, concurrency int, starts int) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    fresh boolean := o.started_at IS NULL;
    room int;
    older int;
BEGIN
    IF concurrency = 0 AND (starts = 0 OR NOT fresh) THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('orders_claim'));
    SELECT CASE WHEN fresh THEN least(places, starts_left) ELSE places END
    INTO room FROM orders_room(concurrency, starts);
    IF room <= 0 THEN
        RETURN false;
    END IF;
    SELECT count(*) INTO older FROM (
        SELECT FROM orders_order w
        WHERE w.status = 'pending' AND w.id < o.id
          AND w.next_attempt_at <= clock_timestamp()
          AND (fresh OR w.started_at IS NOT NULL)
          AND (w.deadline_at IS NULL OR w.deadline_at > clock_timestamp())
        LIMIT room
    ) waiting;
    RETURN older < room;
END $$
"""

CLAIM = """
CREATE FUNCTION orders_claim(wanted text, concurrency int, starts int, lease interval)
RETURNS TABLE (claimed orders_order, previous_status text)
LANGUAGE plpgsql AS $$
DECLARE
    o orders_order;
    moment timestamptz;
BEGIN
    SELECT * INTO o FROM orders_order WHERE id = wanted FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    ELSIF o.status IN ('routing', 'building', 'submitted') THEN
        IF o.lease_until > clock_timestamp() THEN
            RETURN;
        END IF;
    ELSIF o.status <> 'pending'
        OR o.next_attempt_at > clock_timestamp()
        OR o.deadline_at <= clock_timestamp()
        OR NOT orders_may_start(o, concurrency, starts)
    THEN
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

# Abandoned orders first: they hold a place already.
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
        ORDER BY id LIMIT least(greatest(room.places, 0), most);
    GET DIAGNOSTICS retries = ROW_COUNT;
    RETURN QUERY SELECT id::text FROM orders_order
        WHERE status = 'pending' AND started_at IS NULL
          AND next_attempt_at <= clock_timestamp()
          AND (deadline_at IS NULL OR deadline_at > clock_timestamp())
        ORDER BY id LIMIT least(greatest(least(room.places - retries, room.starts_left), 0), most);
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial")]

    operations = [
        migrations.RunSQL(ROOM, "DROP FUNCTION orders_room"),
        migrations.RunSQL(MAY_START, "DROP FUNCTION orders_may_start"),
        migrations.RunSQL(CLAIM, "DROP FUNCTION orders_claim"),
        migrations.RunSQL(RUNNABLE, "DROP FUNCTION orders_runnable"),
    ]
