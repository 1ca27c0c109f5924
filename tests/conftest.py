"""Fixtures that every test may use."""

import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings

from orders import database


def create_database() -> str:
    """The URL of a new, empty database on the test server."""
    name = f"scratch_{secrets.token_hex(4)}"
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
    return urlsplit(settings.DATABASE_URL)._replace(path=f"/{name}").geturl()


@pytest.fixture(scope="session")
def database_url() -> str:
    """Of an empty scratch database."""
    return create_database()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """Lets go of the engine's own connections before the test database is dropped."""
    yield
    database.pool().close()


@pytest.fixture
def stored(transactional_db: None) -> Iterator[Any]:
    """A test that writes through the engine's own connections, which no test transaction covers."""
    return database
