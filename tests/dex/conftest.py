"""A ledger on the scratch database, and exchanges that trade on it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from dex import tokens
from dex.exchange import ExchangeConfig, open_exchange
from dex.simulation.chain import SCHEMA_SQL
from dex.simulation.faults import Faults
from dex.types import SwapRequest
from dex.venues.registry import VENUES
from tests.dex.blocking import Blocking


@pytest.fixture(scope="session")
def ledger_dsn(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(SCHEMA_SQL.read_text())
        connection.execute(SCHEMA_SQL.read_text())
    return database_url


@pytest.fixture
def ledger(ledger_dsn: str) -> Iterator[psycopg.Connection]:
    with closing(psycopg.connect(ledger_dsn, autocommit=True)) as connection:
        connection.execute("TRUNCATE chain.transaction")
        yield connection


@pytest.fixture
def exchange_with(ledger_dsn: str, ledger: psycopg.Connection) -> Iterator[Callable[..., Blocking]]:
    """Opens exchanges at zero latency; keyword arguments change that, `sleep` replaces the real."""
    opened: list[Blocking] = []
    config = ExchangeConfig(
        dsn=ledger_dsn,
        seed="tests",
        quote_latency_ms=0,
        swap_latency_ms=(0, 0),
        faults=Faults(),
        quote_timeouts_ms=dict.fromkeys(VENUES, 5_000),
    )

    def open_one(
        *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep, **changes: object
    ) -> Blocking:
        opened.append(Blocking(open_exchange(replace(config, **changes), sleep=sleep)))
        return opened[-1]

    yield open_one
    for exchange in opened:
        exchange.close()


@pytest.fixture
def request_for() -> Callable[..., SwapRequest]:
    """One SOL into USDC at 1 % slippage; keyword arguments change that."""
    request = SwapRequest(
        token_in=tokens.SOL,
        token_out=tokens.USDC,
        amount_in=10**9,
        slippage_bps=100,
        order_id="ord_1762597800000_abcdefghij",
    )
    return lambda **changes: replace(request, **changes)
