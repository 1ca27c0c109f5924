"""`orders/sql` is what the migrations make of the database."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import orders
from orders import database

FILES = sorted((Path(orders.__file__).parent / "sql").glob("*.sql"))
FUNCTIONS = """
SELECT oid::regprocedure::text, pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace = %s::regnamespace
"""
# A literal is kept; comments and white space are one end of a line.
BETWEEN_WORDS = re.compile(r"('[^']*')|(?:--.*|\s)+")

Connection = psycopg.Connection[tuple[str, str]]


def words(text: str) -> str:
    return BETWEEN_WORDS.sub(lambda found: found[1] or "\n", text)


def functions_in(conn: Connection, schema: str) -> dict[str, str]:
    """By signature, a word in each line. All but the body is as PostgreSQL puts it."""
    return {
        signature.removeprefix(f"{schema}."): words(text.replace(f"{schema}.", "", 1))
        for signature, text in conn.execute(FUNCTIONS, [schema])
    }


def functions_of_files(conn: Connection) -> dict[str, str]:
    conn.execute("CREATE SCHEMA files")
    conn.execute("SET LOCAL search_path TO files, public")
    for file in FILES:
        conn.execute(file.read_text())
    return functions_in(conn, "files")


@pytest.fixture
def conn(django_db_setup: None) -> Iterator[Connection]:
    """What is done here is undone."""
    with psycopg.connect(database.conninfo()) as found:
        yield found
        found.rollback()


def test_the_files_have_every_function_as_it_is(conn: Connection) -> None:
    migrated = functions_in(conn, "public")
    written = functions_of_files(conn)

    assert sorted(written) == sorted(migrated)
    for signature, text in written.items():
        assert text == migrated[signature], signature


@pytest.mark.parametrize(
    "change",
    [
        "CREATE OR REPLACE FUNCTION orders_given_up() RETURNS SETOF orders_order "
        "LANGUAGE sql STABLE AS 'SELECT * FROM orders_order'",
        "ALTER FUNCTION orders_place_each(jsonb) RESET lock_timeout",
        "DROP FUNCTION orders_given_up",
        "CREATE FUNCTION orders_unwritten() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_what_one_side_alone_changes_is_seen(conn: Connection, change: str) -> None:
    conn.execute(change)
    changed = functions_in(conn, "public")

    assert functions_of_files(conn) != changed


def test_comments_and_layout_are_no_change_but_literals_are() -> None:
    assert words("a  = '-- b'  -- it's c\n\n;").split("\n") == ["a", "=", "'-- b'", ";"]
    assert words("' '") != words("'  '")
