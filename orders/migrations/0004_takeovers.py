"""An order that takes its workers with it ends, and does not take other orders' workers as well."""

from importlib import import_module

from django.db import migrations, models

from orders.migrations._replaced import replaced

before = import_module("orders.migrations.0002_claim")

# So many workers may be lost with an order that has nothing submitted: then it is given up.
MOST_LOST = 4

# Abandoned orders first: they hold a place already. One that two workers in turn were lost with is
# a suspect: of those one runs at a time, so that it takes no other with it twice, and the least
# suspect go first. Then retries, which have had their start and need a place only. Then fresh
# orders, in order of creation.
RUNNABLE = f"""
CREATE OR REPLACE FUNCTION orders_runnable(concurrency int, starts int, most int)
RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    room record;
    retries int;
BEGIN
    RETURN QUERY SELECT id::text FROM orders_order
        WHERE status IN ('routing', 'building', 'submitted') AND lease_until <= clock_timestamp()
          AND (status = 'submitted' OR takeovers < 1)
        ORDER BY id LIMIT most;
    RETURN QUERY SELECT o.id::text FROM orders_order o
        WHERE o.status IN ('routing', 'building') AND o.lease_until <= clock_timestamp()
          AND o.takeovers BETWEEN 1 AND {MOST_LOST} - 2
          AND NOT EXISTS (
              SELECT FROM orders_order suspect
              WHERE suspect.status IN ('routing', 'building') AND suspect.takeovers > 1
                AND suspect.lease_until > clock_timestamp())
        ORDER BY o.takeovers, o.id LIMIT 1;
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

# What nobody is to claim any more: the dispatcher ends it.
GIVEN_UP = f"""
CREATE FUNCTION orders_given_up() RETURNS SETOF orders_order LANGUAGE sql STABLE AS $$
    SELECT * FROM orders_order
    WHERE status IN ('routing', 'building') AND lease_until <= clock_timestamp()
      AND takeovers >= {MOST_LOST} - 1
$$
"""

# As in 0002, and: a claim of an abandoned order counts in `takeovers`. A submitted order can only
# end by the chain's word, so it is never given up; from its sixth takeover on the lease doubles,
# and what kills its workers kills them ever more rarely. One claim at a time where limits hold or
# an order is under suspicion.
CLAIM = """
CREATE OR REPLACE FUNCTION orders_claim(wanted text, concurrency int, starts int, lease interval)
RETURNS TABLE (claimed orders_order, previous_status text)
LANGUAGE plpgsql AS $$
DECLARE
    o orders_order;
    moment timestamptz;
    candidate text;
BEGIN
    IF concurrency > 0 OR starts > 0 OR EXISTS (
        SELECT FROM orders_order WHERE status IN ('routing', 'building') AND takeovers > 0
    ) THEN
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
    o.takeovers := CASE WHEN o.status = 'pending' THEN 0 ELSE o.takeovers + 1 END;
    o.lease_until := moment + lease * CASE WHEN o.status = 'submitted'
        THEN 2 ^ least(greatest(o.takeovers - 5, 0), 8) ELSE 1 END;
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
        fence = o.fence, takeovers = o.takeovers, lease_until = o.lease_until
    WHERE id = o.id;
    claimed := o;
    RETURN NEXT;
END $$
"""


def replacing(sql: str) -> str:
    return replaced(sql, "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


class Migration(migrations.Migration):
    dependencies = [("orders", "0003_simulated_chain")]

    operations = [
        migrations.AddField(
            "order",
            "takeovers",
            models.SmallIntegerField(
                db_default=0, help_text="claims in a row whose worker was lost"
            ),
        ),
        migrations.RunSQL(RUNNABLE, replacing(before.RUNNABLE)),
        migrations.RunSQL(GIVEN_UP, "DROP FUNCTION orders_given_up"),
        migrations.RunSQL(CLAIM, replacing(before.CLAIM)),
    ]
