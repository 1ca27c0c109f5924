-- Free places, and first starts left in the last 60 seconds; a limit of 0 means no limit.
-- While trading is halted no first start is left; retries and abandoned orders have had theirs.
CREATE OR REPLACE FUNCTION orders_room(
    concurrency int, starts int, OUT places int, OUT starts_left int
) LANGUAGE sql STABLE AS $$
    SELECT
        CASE WHEN concurrency = 0 THEN 1000000 ELSE concurrency - (
            SELECT count(*)::int FROM orders_order
            WHERE status IN ('routing', 'building', 'submitted')
        ) END,
        CASE
            WHEN EXISTS (SELECT FROM orders_halt WHERE resumed_at IS NULL) THEN 0
            WHEN starts = 0 THEN 1000000
            ELSE starts - (
                SELECT count(*)::int FROM (
                    SELECT FROM orders_order
                    -- 10 ms longer than a minute: it also holds for timestamps cut to milliseconds.
                    -- In a subquery: a bare clock_timestamp() would be a filter over all starts.
                    WHERE started_at > (SELECT clock_timestamp() - interval '60.01 s')
                    ORDER BY started_at DESC LIMIT starts
                ) recent
            )
        END
$$;

-- Ids that a claim would let through now, in this order and `most` of a kind:
-- 1. Abandoned orders: they hold a place already.
-- 2. An order that two workers in turn were lost with, or three, is a suspect. Of those one runs at
--    a time, the least suspect first, so that it takes no other with it twice.
-- 3. Retries: they have had their start and need a place only.
-- 4. Fresh orders, in order of creation.
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
          AND o.takeovers BETWEEN 1 AND 4 - 2
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
END $$;

-- Orders that four workers in turn were lost with, unsubmitted: nobody is to claim them any more,
-- the dispatcher fails them. The first of the four did not take over.
CREATE OR REPLACE FUNCTION orders_given_up() RETURNS SETOF orders_order
LANGUAGE sql STABLE AS $$
    SELECT * FROM orders_order
    WHERE status IN ('routing', 'building') AND lease_until <= clock_timestamp()
      AND takeovers >= 4 - 1
$$;
