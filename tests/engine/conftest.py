"""Fixtures of the engine's tests."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from pytest_django import DjangoDbBlocker

from orders import database


@pytest.fixture
def owner(no_orders: None, django_db_blocker: DjangoDbBlocker) -> Iterator[int]:
    with django_db_blocker.unblock():
        User.objects.all().delete()
        yield User.objects.create(username="owner").pk
        for table in ("orders_orderevent", "orders_order"):
            database.rows(f"DELETE FROM {table} RETURNING 1", {})
        User.objects.all().delete()
