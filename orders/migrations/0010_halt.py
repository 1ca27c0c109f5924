"""Trading can be halted: nothing new is stored and nothing waiting starts until it is resumed.

Who stores or starts an order holds a lock in share mode until its commit, and looks for an open
halt after taking it; who halts takes the lock alone. So a halt has no order stored or started
after it, and none that was answered 201 is lost to it.
"""

from importlib import import_module

from django.db import migrations, models

from orders.migrations._replaced import replaced

claims = import_module("orders.migrations.0004_takeovers")
placing = import_module("orders.migrations.0008_placing")
room = import_module("orders.migrations.0002_claim")

SHARED = "PERFORM pg_advisory_xact_lock_shared(hashtext('orders_halt'));"
HALTED = "EXISTS (SELECT FROM orders_halt WHERE resumed_at IS NULL)"
REPLACE = "CREATE OR REPLACE FUNCTION"

# As in 0002, and: no first start is left while trading is halted. Retries and abandoned orders
# have had theirs.
ROOM = replaced(
    replaced(room.ROOM, "CREATE FUNCTION", REPLACE),
    "CASE WHEN starts = 0",
    f"CASE WHEN {HALTED} THEN 0 WHEN starts = 0",
)

# As in 0004, and: the lock, before the snapshot in which the room is counted.
CLAIM = replaced(claims.CLAIM, "    FOR candidate IN", f"    {SHARED}\n    FOR candidate IN")

# As in 0008, and: while trading is halted only orders stored before are answered. `id` is null
# where an order was not stored: it came too late, or trading is halted, since `created_at`.
PLACE = f"""
CREATE OR REPLACE FUNCTION orders_place(owner int, wanted jsonb)
RETURNS TABLE (id text, created_at timestamptz, replayed boolean, same boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ms bigint := floor(extract(epoch FROM statement_timestamp()) * 1000);  -- as in created_at
    stamp text := 'ord_' || lpad(ms::text, 13, '0') || '_';
    halted timestamptz;
    answers jsonb;
BEGIN
    {SHARED}
    halted := (SELECT halted_at FROM orders_halt WHERE resumed_at IS NULL);
    BEGIN
        WITH w AS (
            SELECT stamp || suffix AS id, * FROM {placing.WANTED}
        ), o AS (
            INSERT INTO orders_order (id, owner_id, client_order_id, order_type, token_in,
                                      token_out, amount_in, slippage_bps, deadline_at, request_id)
            SELECT id, owner, client_order_id, order_type, token_in, token_out, amount_in,
                   slippage_bps, deadline_at, request_id
            FROM w WHERE NOT late AND halted IS NULL ORDER BY client_order_id, id
            ON CONFLICT DO NOTHING
            RETURNING id, created_at
        ), e AS (
            INSERT INTO orders_orderevent
                (order_id, seq, status, previous_status, attempt, created_at, data)
            SELECT id, 1, 'pending', '', 1, o.created_at, w.data FROM o JOIN w USING (id)
        )
        INSERT INTO orders_tally (kind, shard, count)
        SELECT 'placed', pg_backend_pid() % 16, count(*) FROM o HAVING count(*) > 0
        ON CONFLICT (kind, shard) DO UPDATE SET count = orders_tally.count + excluded.count;

        SELECT jsonb_agg(jsonb_build_object(
            'id', o.id,
            'created_at', coalesce(o.created_at, CASE WHEN NOT late THEN halted END),
            'replayed', o.id <> stamp || suffix,
            'same', o.id IS NOT NULL
                AND (o.order_type, o.token_in, o.token_out, o.amount_in, o.slippage_bps,
                     o.deadline_at)
                IS NOT DISTINCT FROM
                    (w.order_type, w.token_in, w.token_out, w.amount_in, w.slippage_bps,
                     w.deadline_at)
        ) ORDER BY suffix)
        INTO answers
        FROM {placing.WANTED} LEFT JOIN LATERAL (
            SELECT * FROM orders_order WHERE id = stamp || suffix
            UNION ALL
            SELECT * FROM orders_named(owner, w.client_order_id) WHERE id <> stamp || suffix
        ) o ON true;
        IF answers @> '[{{"same": false}}]' THEN
            RAISE EXCEPTION USING ERRCODE = 'OE001';
        END IF;
    EXCEPTION WHEN SQLSTATE 'OE001' THEN
        NULL;  -- what was inserted is undone; the answers stay
    END;
    RETURN QUERY
        SELECT a ->> 'id', (a ->> 'created_at')::timestamptz, (a ->> 'replayed')::boolean,
               (a ->> 'same')::boolean
        FROM jsonb_array_elements(answers) WITH ORDINALITY AS answer(a, n) ORDER BY n;
END $$
"""


def as_before(sql: str) -> str:
    return replaced(sql, "CREATE FUNCTION", REPLACE)


class Migration(migrations.Migration):
    dependencies = [("orders", "0009_list_indexes")]

    operations = [
        migrations.CreateModel(
            name="Halt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("halted_at", models.DateTimeField()),
                ("halted_by", models.CharField(max_length=150)),
                ("reason", models.CharField(blank=True, max_length=200)),
                ("resumed_at", models.DateTimeField(null=True)),
                ("resumed_by", models.CharField(blank=True, db_default="", max_length=150)),
            ],
            options={"verbose_name": "trading halt"},
        ),
        migrations.AddConstraint(
            "halt",
            models.UniqueConstraint(
                condition=models.Q(resumed_at__isnull=True),
                fields=("resumed_at",),
                name="one_open_halt",
                nulls_distinct=False,
            ),
        ),
        migrations.RunSQL(ROOM, as_before(room.ROOM)),
        migrations.RunSQL(CLAIM, claims.CLAIM),
        migrations.RunSQL(PLACE, as_before(placing.PLACE)),
    ]
