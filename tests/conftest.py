"""Fixtures that every test may use."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from pytest_django import DjangoDbBlocker

from dex.exchange import Exchange, open_exchange
from dex.simulation.faults import Faults
from orders import database, execution, intake, limits, measures, presence

TABLES = (
    "orders_orderevent",
    "orders_swap",
    "orders_order",
    "orders_tally",
    "orders_ticket",
    "orders_apikey",
    "orders_measure",
    "orders_halt",
)


def create_database(template: str = "template1") -> str:
    """The URL of a new database on the test server, empty unless it copies another."""
    name = f"scratch_{secrets.token_hex(4)}"
    url = urlsplit(settings.DATABASE_URL)
    with psycopg.connect(url._replace(path="/postgres").geturl(), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return url._replace(path=f"/{name}").geturl()


@pytest.fixture(scope="session")
def database_url() -> str:
    """Of an empty scratch database."""
    return create_database()


@pytest.fixture(scope="session")
def migrated(django_db_blocker: DjangoDbBlocker) -> str:
    """The name of a database with all tables, for others to copy: nobody is connected to it."""
    with django_db_blocker.unblock():
        call_command("migrate", verbosity=0)
        connection.close()
        connection.close_pool()  # it would stay connected
    return urlsplit(create_database(connection.settings_dict["NAME"])).path[1:]


@pytest.fixture(scope="session")
def django_db_setup(migrated: str) -> Iterator[None]:
    """The tables, in the database of this run's own server (tests/servers.py)."""
    for client in (presence.client, limits.client):
        client()  # of this run's Redis: the first to ask may be a test that names another
    yield
    database.pool().close()


@pytest.fixture
def no_orders(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The real tables, empty of orders. What the test writes is committed.

    The engine writes through connections of its own, which no test transaction covers. Deleting
    the few rows of the test before takes 2 ms, pytest-django's TRUNCATE of all tables 70.
    """
    with django_db_blocker.unblock():
        measures.counts().flush()  # not into what the test counts
        with database.pool().connection() as conn:
            for table in TABLES:
                conn.execute(f"DELETE FROM {table}")
        yield


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens exchanges at zero latency, for the engine to use; keyword arguments change that."""
    opened: list[Exchange] = []

    def open_one(**changes: Any) -> Exchange:
        changed = replace(
            settings.DEX, quote_latency_ms=0, swap_latency_ms=(0, 0), faults=Faults(), **changes
        )
        monkeypatch.setattr(settings, "DEX", changed)
        opened.append(open_exchange(replace(changed, dsn=database.conninfo())))
        monkeypatch.setattr(execution, "exchange", lambda: opened[-1])
        monkeypatch.setattr(intake, "exchange", lambda: opened[-1])
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
