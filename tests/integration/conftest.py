from collections.abc import Iterator

import pytest

from tests.conftest import create_database
from tests.stacks import Running, engine


@pytest.fixture
def new_database(migrated: str) -> str:
    """The URL of a database with all tables and no orders."""
    return create_database(migrated)


@pytest.fixture(scope="session")
def running(migrated: str) -> Iterator[Running]:
    """An engine that most tests share: real web, worker and dispatcher; orders land in 0.4 s."""
    with engine(
        create_database(migrated), DEX_SWAP_LATENCY_MS="400", QUEUE_RATE_LIMIT="0"
    ) as found:
        yield found
