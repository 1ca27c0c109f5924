-- Starts orders, or takes them over: those of the wanted orders that may run now, then the first of
-- the others, as many as were wanted. So a hint is never wasted while there is work and room, and
-- nobody starts before an older order that has no room. Callers: claims.CLAIM and claims.TURN.
--
-- It is a function because a lock must be taken before the snapshot in which the fleet is counted:
-- within one statement PostgreSQL would count in the snapshot from before the wait.
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

-- For workers of a release that claimed one order at a time.
CREATE OR REPLACE FUNCTION orders_claim(wanted text, concurrency int, starts int, lease interval)
RETURNS TABLE (claimed orders_order, previous_status text)
LANGUAGE sql AS $$
    SELECT * FROM orders_claim(ARRAY[wanted], concurrency, starts, lease)
$$;
