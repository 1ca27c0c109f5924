"""Migrations beside what runs: what is ended by a lock can be repeated."""

import os
import subprocess

import psycopg
import pytest

from tests.stacks import MANAGE, ROOT

pytestmark = pytest.mark.fleet

HELD = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM orders_order"
INVALID = "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid"


def migrate(url: str, *target: str) -> subprocess.CompletedProcess[str]:
    command, env = [*MANAGE, "migrate", "-v0", *target], {**os.environ, "DATABASE_URL": url}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("before", ["0008", "0012"])
def test_an_index_that_waited_too_long_for_a_reader_is_made_by_the_next_run(
    new_database: str, before: str
) -> None:
    assert migrate(new_database, "orders", before).returncode == 0

    with psycopg.connect(new_database) as reader:
        reader.execute(HELD)
        refused = migrate(new_database)
    assert "repeat the command when it has ended" in refused.stderr
    again = migrate(new_database)

    assert again.returncode == 0, again.stderr
    with psycopg.connect(new_database) as conn:
        assert conn.execute(INVALID).fetchall() == []


def test_no_table_is_written_anew_on_the_way_back_or_forth(new_database: str) -> None:
    tables = "SELECT pg_relation_filenode('orders_order'), pg_relation_filenode('orders_swap')"
    with psycopg.connect(new_database, autocommit=True) as conn:
        before = conn.execute(tables).fetchone()

        for target in ("0020", "0026"):
            assert migrate(new_database, "orders", target).returncode == 0
            assert conn.execute(tables).fetchone() == before
