"""What the promise of a 201 rests on in PostgreSQL."""

from typing import Any

import psycopg
import pytest
from django.core.checks import Error, Warning, run_checks
from django.core.management import call_command
from django.db import connection

from orders import database, durability

pytestmark = pytest.mark.usefixtures("no_orders")


def test_settings_that_may_lose_a_commit_are_named() -> None:
    """The server of these tests has both off (tests/servers.py)."""
    assert durability.unsafe_settings() == ["fsync", "synchronous_commit"]


@pytest.mark.parametrize(("development", "kind"), [(True, Warning), (False, Error)])
def test_production_refuses_them(development: bool, kind: type, settings: Any) -> None:
    settings.DEVELOPMENT = development

    found = [c for c in run_checks(databases=["default"]) if c.id == "orders.E001"]

    assert [type(check) for check in found] == [kind, kind]
    assert "fsync=off" in found[0].msg


def test_a_safe_server_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "NEEDED", ("full_page_writes",))

    assert durability.unsafe_settings() == []
    assert durability.check_durability(None, ["default"]) == []


def test_a_database_that_is_away_is_somebody_elses_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> list[str]:
        raise psycopg.OperationalError("refused")

    monkeypatch.setattr(durability, "unsafe_settings", away)

    assert durability.check_durability(None, ["default"]) == []


def test_migrations_take_as_long_as_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def handle(*_: Any, **__: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            seen.extend([cursor.fetchone()[0], connection.connection.answer_seconds])

    monkeypatch.setattr("django.core.management.commands.migrate.Command.handle", handle)
    call_command("migrate", verbosity=0)

    assert seen == ["0", None]


def test_a_statement_without_an_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with database.pool().connection() as conn:
        conn.answer_seconds = 0.2
        with pytest.raises(psycopg.OperationalError, match=r"no answer within 0\.2 s"):
            conn.execute("SELECT pg_sleep(20)")
        assert conn.closed

    assert database.row("SELECT 1 AS one", {}) == {"one": 1}


def test_a_bad_answer_is_an_answer() -> None:
    with database.pool().connection() as conn:
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("SELECT * FROM nowhere")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SET statement_timeout = 50; SELECT pg_sleep(5)")
        assert not conn.closed
        conn.execute("RESET statement_timeout")
