"""What must hold in the database at any moment, as SQL that answers what breaks it.

Each statement is one snapshot: orders, events, swaps and the tally are written together, and the
chain writes before the order does, so a working engine never shows a violation in passing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dex.venues.registry import SIMULATED
from orders.models import IN_EXECUTION, TERMINAL, TRANSITIONS, listed
from orders.partitions import KEPT_FROM

Fetch = Callable[[str, dict[str, Any]], list[dict[str, Any]]]

MOST_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Invariant:
    """`sql` answers one row for each violation: `order_id`, null for the fleet's, and `what`.

    It may use the parameters `concurrency` and `starts`, the fleet's limits.
    """

    name: str
    promise: str
    sql: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What one invariant says; the first few violations as text, in order of the order's id."""

    invariant: Invariant
    violations: int
    examples: tuple[str, ...]


ENDS = listed(TERMINAL)
RUNS = listed(IN_EXECUTION)
MOVES = ", ".join(
    f"('{before.value}', '{after.value}')"
    for before, following in TRANSITIONS.items()
    for after in sorted(following)
)

# Longer than a worker's death and all that mends it take.
GRACE = "interval '60 s'"

# The simulated chain settles a transaction when somebody asks; from `settles_at` on its outcome
# holds whether or not anybody did. The clock is read after the snapshot is taken, never before:
# what an order knew of its transaction is settled here as well.
LEDGER = """
ledger AS (
    SELECT signature, order_id, settles_at, amount_in, outcome_amount_out AS filled, CASE
        WHEN status = 'pending' AND settles_at <= clock_timestamp() THEN outcome
        ELSE status END AS state
    FROM chain.transaction
)"""

ONE_LANDED = Invariant(
    "one-landed",
    "no order has two landed transactions",
    f"""
WITH {LEDGER}
SELECT order_id, concat(count(*), ' landed: ',
                        string_agg(left(signature, 16), ', ' ORDER BY signature)) AS what
FROM ledger WHERE state = 'landed' GROUP BY order_id HAVING count(*) > 1
""",
)

# A second landed transaction of a confirmed order is left to `one-landed`. A submitted order's may
# have landed while its worker was about to ask.
LANDED_IS_CONFIRMED = Invariant(
    "landed-is-confirmed",
    "landed in the chain is confirmed here, and the reverse, with the same signature and amounts",
    f"""
WITH {LEDGER}
SELECT o.id AS order_id,
       concat('confirmed with ', left(tx_hash, 16), ', in the chain ', coalesce(state, 'unknown'),
              CASE WHEN state = 'landed' THEN ' with other amounts' END) AS what
FROM orders_order o LEFT JOIN ledger l ON signature = tx_hash AND order_id = o.id
WHERE o.status = 'confirmed' AND (state IS DISTINCT FROM 'landed'
       OR (l.amount_in, filled) <> (o.amount_in, o.amount_out) OR filled < o.min_amount_out)
  AND string_to_array(o.venue, '+') <@ ARRAY[{listed(SIMULATED)}]
UNION ALL
SELECT order_id, concat(left(signature, 16), ' landed ',
                        round(extract(epoch FROM clock_timestamp() - settles_at)), ' s ago, ',
                        coalesce('order is ' || o.status, 'no such order'))
FROM ledger l LEFT JOIN orders_order o ON o.id = order_id
WHERE state = 'landed' AND o.status IS DISTINCT FROM 'confirmed'
  AND (o.status = 'submitted' AND tx_hash = signature
       AND settles_at > clock_timestamp() - {GRACE}) IS NOT TRUE
UNION ALL
SELECT order_id, concat(left(signature, 16), ' ', state, ' ',
                        round(extract(epoch FROM clock_timestamp() - settles_at)),
                        ' s ago, order is submitted')
FROM ledger l JOIN orders_order o ON o.id = order_id AND tx_hash = signature
WHERE state IN ('failed', 'expired') AND o.status = 'submitted'
  AND settles_at < clock_timestamp() - {GRACE}
""",
)

MAY_LAND_IS_SUBMITTED = Invariant(
    "may-land-is-submitted",
    "a transaction that may still land is that of a submitted order, never of a finished one",
    f"""
WITH {LEDGER}
SELECT order_id, concat(left(signature, 16), ' may still land, ',
                        coalesce('order is ' || o.status, 'no such order')) AS what
FROM ledger LEFT JOIN orders_order o ON o.id = order_id
WHERE state = 'pending' AND (o.status = 'submitted' AND tx_hash = signature) IS NOT TRUE
""",
)

SENT_IN_TIME = Invariant(
    "sent-in-time",
    "nothing is sent to a venue at its order's deadline or later",
    """
SELECT order_id, concat(left(signature, 16), ' was sent ',
    round(extract(epoch FROM sent_at - deadline_at) * 1000), ' ms after the deadline') AS what
FROM chain.transaction JOIN orders_order o ON o.id = order_id WHERE sent_at >= deadline_at
""",
)

GAPLESS_EVENTS = Invariant(
    "gapless-events",
    "events of an order are 1 to its seq, each once",
    f"""
SELECT coalesce(o.id, e.order_id) AS order_id,
       concat(coalesce(events, 0), ' events, ', coalesce(seqs, 0), ' seqs from ',
              coalesce(first, 0), ' to ', coalesce(last, 0), '; seq of the order is ',
              coalesce(o.seq::text, 'unknown')) AS what
FROM orders_order o FULL JOIN (
    SELECT order_id, count(*) AS events, count(DISTINCT seq) AS seqs,
           min(seq) AS first, max(seq) AS last
    FROM orders_orderevent GROUP BY order_id
) e ON e.order_id = o.id
WHERE (events, seqs, first, last) IS DISTINCT FROM (o.seq, o.seq, 1, o.seq)
  AND (o.id < {KEPT_FROM}) IS NOT TRUE
""",
)

LEGAL_MOVES = Invariant(
    "legal-moves",
    "an order begins pending and every event is a legal move from the one before",
    f"""
SELECT order_id, concat('event ', seq, ' moves from ', coalesce(nullif(previous_status, ''), 'new'),
                        ' to ', status, ' after ', coalesce(nullif(before, ''), 'new')) AS what
FROM (
    SELECT order_id, seq, previous_status, status,
           lag(status, 1, '') OVER (PARTITION BY order_id ORDER BY seq) AS before
    FROM orders_orderevent
) e
WHERE previous_status <> before
   OR (previous_status, status) NOT IN (('', 'pending'), {MOVES})
""",
)

ONE_END = Invariant(
    "one-end",
    "the last event has the order's status; a finished order has one terminal event, others none",
    f"""
SELECT o.id AS order_id, concat('order is ', o.status, ', last event ', coalesce(last, 'none'),
                                ', terminal events ', coalesce(ends, 0)) AS what
FROM orders_order o LEFT JOIN (
    SELECT order_id, (array_agg(status ORDER BY seq DESC))[1] AS last,
           count(*) FILTER (WHERE status IN ({ENDS})) AS ends
    FROM orders_orderevent GROUP BY order_id
) e ON e.order_id = o.id
WHERE (last IS DISTINCT FROM o.status OR ends <> (o.status IN ({ENDS}))::int)
  AND o.id >= {KEPT_FROM}
""",
)

STARTS_A_MINUTE = Invariant(
    "starts-a-minute",
    "never more first starts in any 60 s than QUEUE_RATE_LIMIT",
    """
SELECT order_id, concat(n, ' first starts in the 60 s up to its own, the limit is ',
                        %(starts)s::int) AS what
FROM (
    SELECT order_id,
           count(*) OVER (ORDER BY min(created_at) RANGE interval '60 s' PRECEDING) AS n
    FROM orders_orderevent WHERE status = 'routing' GROUP BY order_id
) s
WHERE %(starts)s::int > 0 AND n > %(starts)s::int
""",
)

# A start at the moment of an end comes after it: it was given the freed place.
IN_EXECUTION_AT_ONCE = Invariant(
    "in-execution-at-once",
    "never more orders in execution at once than QUEUE_CONCURRENCY",
    f"""
SELECT order_id, concat('started as one of ', n, ' in execution, the limit is ',
                        %(concurrency)s::int) AS what
FROM (
    SELECT order_id, change, sum(change) OVER (ORDER BY created_at, change) AS n
    FROM (
        SELECT order_id, created_at, (status IN ({RUNS}))::int
            - (previous_status IN ({RUNS}))::int AS change
        FROM orders_orderevent
    ) c
    WHERE change <> 0
) r
WHERE change > 0 AND %(concurrency)s::int > 0 AND n > %(concurrency)s::int
""",
)

NONE_LEFT_BEHIND = Invariant(
    "none-left-behind",
    "a lease or deadline that ended is acted on within 60 s; no due order waits beside free places",
    f"""
SELECT id AS order_id, concat(status, ', its ', CASE status WHEN 'pending' THEN 'deadline'
    ELSE 'lease' END, ' ended ', round(extract(epoch FROM clock_timestamp() - ended)),
    ' s ago') AS what
FROM (
    SELECT id, status, CASE
        WHEN status IN ({RUNS}) THEN lease_until
        WHEN status = 'pending' THEN deadline_at END AS ended
    FROM orders_order
) o
WHERE ended < clock_timestamp() - {GRACE}
UNION ALL
SELECT id, concat(status, ', due since ', round(extract(epoch FROM clock_timestamp()
    - next_attempt_at)), ' s; there is room, and nothing starts')
FROM orders_order, orders_room(%(concurrency)s, %(starts)s) room
WHERE status = 'pending' AND next_attempt_at < clock_timestamp() - {GRACE}
    AND (deadline_at IS NULL OR deadline_at > clock_timestamp())
    AND room.places > 0 AND (started_at IS NOT NULL OR room.starts_left > 0)
    AND NOT EXISTS (
        SELECT FROM orders_orderevent
        WHERE status = 'routing' AND created_at > clock_timestamp() - {GRACE} * 1.25)
    AND NOT EXISTS (SELECT FROM orders_halt WHERE resumed_at > clock_timestamp() - {GRACE})
""",
)

SWAPS_AGREE = Invariant(
    "swaps-agree",
    "a submitted order has one live swap, a confirmed one landed, its tx_hash; others neither",
    """
SELECT o.id AS order_id, concat('order is ', status, ' with ',
    coalesce(nullif(left(tx_hash, 16), ''), 'no hash'), ', swaps live ', coalesce(live, 0),
    ', landed ', coalesce(landed, 0), ', with its hash ', coalesce(own, 0)) AS what
FROM orders_order o LEFT JOIN (
    SELECT order_id, count(*) FILTER (WHERE state = 'live') AS live,
           count(*) FILTER (WHERE state = 'landed') AS landed,
           count(*) FILTER (WHERE state <> 'dead' AND signature = tx_hash) AS own
    FROM orders_swap JOIN orders_order ON id = order_id GROUP BY order_id
) s ON s.order_id = o.id
WHERE (coalesce(live, 0), coalesce(landed, 0), coalesce(own, 0)) <> (
    (status = 'submitted')::int, (status = 'confirmed')::int,
    (status IN ('submitted', 'confirmed'))::int)
""",
)

TALLY_AGREES = Invariant(
    "tally-agrees",
    "the tally of each kind is the number of such orders",
    f"""
SELECT NULL::text AS order_id, concat(kind, ': tally ', coalesce(tallied, 0), ', orders ',
                                      coalesce(counted, 0)) AS what
FROM (
    SELECT 'placed' AS kind, count(*) AS counted FROM orders_order
    UNION ALL
    SELECT status, count(*) FROM orders_order WHERE status IN ({ENDS}) GROUP BY status
) o FULL JOIN (
    SELECT kind, sum(count) AS tallied FROM orders_tally GROUP BY kind
) t USING (kind)
WHERE coalesce(tallied, 0) <> coalesce(counted, 0)
""",
)

CHAIN = (ONE_LANDED, LANDED_IS_CONFIRMED, MAY_LAND_IS_SUBMITTED, SENT_IN_TIME)
ENGINE = (
    GAPLESS_EVENTS,
    LEGAL_MOVES,
    ONE_END,
    STARTS_A_MINUTE,
    IN_EXECUTION_AT_ONCE,
    NONE_LEFT_BEHIND,
    SWAPS_AGREE,
    TALLY_AGREES,
)

HAS_CHAIN = "SELECT to_regclass('chain.transaction') IS NOT NULL AS found"
FIRST_FEW = f"""
SELECT order_id, what, count(*) OVER () AS violations FROM ({{sql}}) v
ORDER BY order_id, what LIMIT {MOST_EXAMPLES}
"""


def examine(fetch: Fetch, *, concurrency: int, starts: int) -> list[Finding]:
    """One finding for each invariant; those of CHAIN are left out where there is no simulated one.

    `fetch` runs one statement, in a snapshot of its own. `concurrency` and `starts` (first starts
    in 60 s) are held against all events there are; 0 is no limit.
    """
    limits = {"concurrency": concurrency, "starts": starts}
    invariants = (*CHAIN, *ENGINE) if fetch(HAS_CHAIN, {})[0]["found"] else ENGINE
    return [finding(invariant, fetch, limits) for invariant in invariants]


def finding(invariant: Invariant, fetch: Fetch, limits: dict[str, Any]) -> Finding:
    rows = fetch(FIRST_FEW.format(sql=invariant.sql), limits)
    return Finding(
        invariant,
        violations=rows[0]["violations"] if rows else 0,
        examples=tuple(": ".join(filter(None, (row["order_id"], row["what"]))) for row in rows),
    )
