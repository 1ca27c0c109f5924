"""An order that is divided between two venues, on real processes, signed with a key from a file."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from solders.keypair import Keypair

from tests.stacks import Running, engine

KEYPAIR = Keypair.from_seed(bytes(range(7, 39)))
SECRET = bytes(KEYPAIR)
SHOWN_AS = {
    "base58": str(KEYPAIR),
    "numbers": KEYPAIR.to_json()[1:-1],
    "numbers, spaced": KEYPAIR.to_json()[1:-1].replace(",", ", "),
    "hex": SECRET.hex(),
    "seed": SECRET[:32].hex(),
    "base64": b64encode(SECRET[:30]).decode(),
    "bytes": repr(SECRET[:32])[2:-1],
}
TABLES = """
SELECT format('SELECT t::text FROM %I.%I t', schemaname, tablename) AS query
FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""
LANDED = "SELECT order_id, venue, amount_in FROM chain.transaction WHERE status = 'landed'"


@contextmanager
def signing_engine(database_url: str, tmp_path: Path) -> Iterator[Running]:
    file = tmp_path / "id.json"
    file.write_text(KEYPAIR.to_json())
    file.chmod(0o600)
    with engine(
        database_url,
        DEX_KEYPAIR_FILE=str(file),
        DEX_SEED="large orders",
        DEX_FAULTS="rejected=0.2,reply_lost=0.2,meteora.quote_unavailable=0.1",
        DEX_SWAP_LATENCY_MS="100",
        DEX_QUOTE_LATENCY_MS="0",
        ORDER_RETRY_BASE_SECONDS="0.1",
        LOG_LEVEL="debug",
    ) as started:
        yield started


def stored(running: Running) -> str:
    """Every row of every table, and all that is left in Redis."""
    rows = [row["t"] for table in running.sql(TABLES) for row in running.sql(str(table["query"]))]
    client = redis.Redis.from_url(running.environment["REDIS_URL"])
    return "\n".join([*rows, *(repr(client.dump(key)) for key in client.scan_iter())])


@pytest.mark.fleet
def test_large_orders_take_two_venues_in_one_transaction_and_show_no_key(
    new_database: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with signing_engine(new_database, tmp_path) as running:
        sizes = (500, 500, 500, 500, 1_000, 1_000, 1, 0.1)
        orders = [running.place(amount=str(sol)) for sol in sizes]
        running.place(tokenIn="BONK", tokenOut="SOL", amount="0.00001")  # nothing comes out of it
        running.wait_for_all(60)

        landed = running.sql(LANDED)
        divided = [row for row in landed if "+" in row["venue"]]
        assert len(divided) >= 2
        assert {int(row["amount_in"]) for row in divided} <= {500 * 10**9, 1_000 * 10**9}

        assert running.manage("explain", divided[0]["order_id"]) == 0
        rows = stored(running)

    logs = "".join(capfd.readouterr())
    assert "order.moved" in logs
    assert orders[0] in rows
    assert {name for name, text in SHOWN_AS.items() if text in logs + rows} == set()
