"""Migrations from before `orders/sql` are made of each other's text, by `replaced`."""

from pathlib import Path

import pytest

from orders.migrations import _replaced
from orders.migrations._replaced import replaced

MIGRATIONS = sorted(Path(_replaced.__file__).parent.glob("0*.py"))


def test_a_migration_that_replaces_nothing_is_an_error() -> None:
    assert replaced("SELECT 1", "1", "2") == "SELECT 2"
    with pytest.raises(ValueError, match="'3' does not occur"):
        replaced("SELECT 1", "3", "4")


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda file: file.stem)
def test_no_migration_replaces_silently(migration: Path) -> None:
    assert ".replace(" not in migration.read_text()
