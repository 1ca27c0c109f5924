"""How long the stages of orders take and how often they are tried again: counts that only grow.

A row for each name, bucket and shard. Times are added in the statement that ends an order, from its
events; a retry with the move back to pending. So all processes add up, and a restart loses nothing.
"""

# What a stage of an order is called, by the event that begins it and the one that ends it.
STAGES = {
    ("pending", "routing"): "queued",  # until its first start; not the wait before a retry
    ("routing", "building"): "routing",
    ("building", "submitted"): "building",
    ("submitted", "confirmed"): "submitted",
}
TOTAL = "total"  # from placed to confirmed
RETRIES = "retries"
# Upper bounds of the buckets, in seconds. They may be changed at any time: each row has its own.
BOUNDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)

_SHARD = "pg_backend_pid() %% 16"
_CONFLICT = """ON CONFLICT (name, le, shard) DO UPDATE
    SET count = orders_measure.count + excluded.count,
        seconds = orders_measure.seconds + excluded.seconds"""
# A clock that was set back must not make a sum smaller.
_SECONDS = "greatest(extract(epoch FROM {}), 0)::float8"
_CASES = " ".join(
    f"WHEN after.previous_status = '{begins}' AND after.status = '{ends}' THEN '{stage}'"
    for (begins, ends), stage in STAGES.items()
)
_TOOK = _SECONDS.format("after.created_at - before.created_at")
_STEPS = f"""SELECT CASE {_CASES} END AS name, {_TOOK} AS took
    FROM (SELECT %(from)s AS previous_status, %(to)s AS status, seq, created_at FROM e
          UNION ALL
          SELECT previous_status, status, seq, created_at FROM orders_orderevent
          WHERE order_id = (SELECT id FROM o)) after
    JOIN orders_orderevent before
      ON before.order_id = (SELECT id FROM o) AND before.seq = after.seq - 1
    WHERE after.previous_status <> 'pending' OR after.seq = 2"""
_WHOLE = f"SELECT '{TOTAL}', {_SECONDS.format('updated_at - created_at')} FROM o"

# Steps of lifecycle's statement, beside its `o` (the order) and `e` (the event).
TIMES = """m AS (
    INSERT INTO orders_measure (name, le, shard, count, seconds)
    SELECT name, le, {shard}, count(*), sum(took)
    FROM (
        SELECT name, took, (SELECT coalesce(min(bound), 'Infinity')
                            FROM unnest(ARRAY{bounds}::float8[]) bound WHERE bound >= took) AS le
        FROM ({steps}) s WHERE name IS NOT NULL
    ) timed
    GROUP BY name, le ORDER BY name, le
    {conflict}
)"""
ENDED = TIMES.format(shard=_SHARD, bounds=list(BOUNDS), steps=_STEPS, conflict=_CONFLICT)
CONFIRMED = TIMES.format(
    shard=_SHARD,
    bounds=list(BOUNDS),
    steps=f"{_STEPS} UNION ALL {_WHOLE}",
    conflict=_CONFLICT,
)
RETRIED = f"""m AS (
    INSERT INTO orders_measure (name, le, shard, count, seconds)
    SELECT '{RETRIES}', 'Infinity', {_SHARD}, 1, 0 FROM o
    {_CONFLICT}
)"""
