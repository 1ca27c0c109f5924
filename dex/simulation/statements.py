"""The SQL of the simulated chain. Its every clock is the database's."""

from dex.simulation.blocks import BLOCK_MS

_CLOCK = f"""
clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), block AS (
    SELECT now, floor(extract(epoch FROM now) * 1000)::bigint / {BLOCK_MS} AS height FROM clock
)"""

# Inserts each while its blockhash is current and its sender's `before` has not come; answers, for
# each that is too late and not known already, the code of the reason, and of each that it has
# inserted the state. A quote may be one block ahead where the clocks drift apart between two
# readings. In the order of their signatures: two that send the same at once do not wait for each
# other in a circle.
RECORD = f"""
WITH {_CLOCK}, sent AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(%(sent)s) AS s(
        signature text, order_id text, attempt int, venue text, amount_in numeric,
        first_height bigint, last_height bigint, latency_ms float8, before timestamptz,
        outcome text, amount_out numeric, error_code text, error text)
), fate AS (
    SELECT sent.*, now, lands_at, expires_at,
           outcome <> 'expired' AND lands_at < expires_at AS in_time,
           outcome <> 'expired' AND lands_at < expires_at AND lands_at <= now AS at_once
    FROM block, sent,
         LATERAL (SELECT now + latency_ms * interval '1 millisecond' AS lands_at,
                         to_timestamp((last_height + 1) * {BLOCK_MS} / 1000.0) AS expires_at) t
    WHERE height BETWEEN first_height - 1 AND last_height AND coalesce(now < before, true)
), recorded AS (
    INSERT INTO chain.transaction (signature, order_id, attempt, venue, status, amount_in,
                                   sent_at, outcome, settles_at, outcome_amount_out,
                                   error_code, error, amount_out, landed_at)
    SELECT signature, order_id, attempt, venue,
           CASE WHEN at_once THEN outcome ELSE 'pending' END, amount_in,
           now, CASE WHEN in_time THEN outcome ELSE 'expired' END,
           CASE WHEN in_time THEN lands_at ELSE expires_at END,
           CASE WHEN in_time THEN amount_out END,
           CASE WHEN in_time THEN error_code ELSE %(expired_code)s END,
           CASE WHEN in_time THEN error ELSE %(expired_error)s END,
           CASE WHEN at_once THEN amount_out END,
           CASE WHEN at_once AND outcome = 'landed' THEN lands_at END
    FROM fate ORDER BY signature
    ON CONFLICT (signature) DO NOTHING
    RETURNING signature, status, amount_in, amount_out, error_code, error
)
SELECT signature, CASE
    WHEN signature IN (SELECT signature FROM fate) OR signature IN (
        SELECT signature FROM chain.transaction
        WHERE signature = ANY (ARRAY(SELECT signature FROM sent)))
    THEN '' WHEN before <= now THEN 'DEADLINE_EXCEEDED' ELSE 'TX_EXPIRED' END,
    recorded.status, recorded.amount_in, recorded.amount_out, recorded.error_code, recorded.error
FROM block, sent LEFT JOIN recorded USING (signature)
"""

# Settles what is due and answers a row for each signature, in order: the height, then the
# transaction or nulls. A statement does not see its own update, so the state is derived from the
# row as it was.
ASK = f"""
WITH {_CLOCK}, settled AS (
    UPDATE chain.transaction
    SET status = outcome, amount_out = outcome_amount_out,
        landed_at = CASE WHEN outcome = 'landed' THEN settles_at END
    FROM clock
    WHERE signature = ANY(%(signatures)s::text[]) AND status = 'pending' AND settles_at <= now
)
SELECT height,
       CASE WHEN status = 'pending' AND settles_at <= now THEN outcome ELSE status END,
       amount_in, outcome_amount_out, error_code, error
FROM block, unnest(%(signatures)s::text[]) WITH ORDINALITY AS asked (signature, n)
LEFT JOIN (
    SELECT * FROM chain.transaction WHERE signature = ANY(%(signatures)s::text[])
) found USING (signature)
ORDER BY n
"""

# Takes the signature's place, so that a send still on its way cannot land.
BURY = """
INSERT INTO chain.transaction (signature, order_id, attempt, venue, status, amount_in,
                               sent_at, outcome, settles_at, error_code, error)
VALUES (%(signature)s, %(order_id)s, %(attempt)s, %(venue)s, 'expired', %(amount_in)s,
        NULL, 'expired', clock_timestamp(), %(expired_code)s, %(expired_error)s)
ON CONFLICT (signature) DO NOTHING RETURNING signature
"""
