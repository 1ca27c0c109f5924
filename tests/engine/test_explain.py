"""`manage.py explain` and `manage.py quote`, on the real simulated venues."""

import re
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from dex.exchange import open_exchange
from dex.simulation.faults import Faults
from dex.venues.registry import SIMULATED
from orders import database, execution, lifecycle, loop, render
from orders.executors import EXECUTORS
from orders.explain import explain
from orders.models import Order, Status
from tests.factories import claim, end_lease, load, order_in, place

pytestmark = pytest.mark.usefixtures("no_orders")


def executed(**wanted: Any) -> Order:
    order_id = place(**wanted)
    execution.execute_order(order_id)
    return load(order_id)


def explained(order: Order, capsys: pytest.CaptureFixture[str]) -> str:
    call_command("explain", order.id)
    return capsys.readouterr().out


@pytest.mark.parametrize("curves", [{}, {"raydium": "clmm", "meteora": "dlmm"}])
def test_a_confirmed_order_comes_out_the_same_again(
    exchange: Any, capsys: pytest.CaptureFixture[str], curves: dict[str, str]
) -> None:
    exchange(curves=curves)
    order = executed()
    exchange()  # with the default curves: the event says what the pools were then

    text = explained(order, capsys)

    assert order.status == Status.CONFIRMED
    assert "signature good, 1 swap, memo" in text
    assert text.splitlines()[-1].startswith("matches: quotes, route, transaction and fill")


def test_faults_of_now_have_not_hit_what_has_landed(
    exchange: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange()
    order = executed()
    faulty = replace(settings.DEX, faults=Faults.parse("rejected=1"))
    monkeypatch.setattr(settings, "DEX", faulty)

    assert explained(order, capsys).splitlines()[-1].startswith("matches")


def test_a_divided_order_is_confirmed_and_explained_with_both_legs(
    exchange: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange(venues=("raydium", "meteora"))
    order = executed(amount_in=1_000 * 10**9)

    text = explained(order, capsys)

    assert (order.status, order.venue) == (Status.CONFIRMED, "raydium+meteora")
    assert order.fee_token == "USDC"
    assert "2 swaps in one transaction" in text
    assert "SPLIT_IMPROVES" in text
    assert text.splitlines()[-1].startswith("matches")


def test_an_order_beyond_each_pool_is_divided_and_explained(
    exchange: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange(venues=("raydium", "meteora"), curves={"raydium": "clmm", "meteora": "dlmm"})
    order = executed(amount_in=5_000 * 10**9)

    text = explained(order, capsys)

    assert (order.status, order.venue) == (Status.CONFIRMED, "raydium+meteora")
    assert "none takes all of it alone" in text
    assert "Meteora: INSUFFICIENT_LIQUIDITY, the pool cannot take all of it" in text
    assert text.splitlines()[-1].startswith("matches")


def test_a_venue_that_had_failed_is_taken_as_failed_again(
    exchange: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    down = Faults.parse("meteora.quote_unavailable=1")
    exchange()
    monkeypatch.setattr(settings, "DEX", replace(settings.DEX, faults=down))
    opened = open_exchange(replace(settings.DEX, dsn=database.conninfo()))
    monkeypatch.setattr(execution, "exchange", lambda: opened)
    order = executed()
    opened.close()

    text = explained(order, capsys)

    assert "Meteora: QUOTE_UNAVAILABLE, gave no answer" in text
    assert text.splitlines()[-1].startswith("matches")


def test_another_seed_does_not_match(
    exchange: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange()
    order = executed()
    monkeypatch.setattr(settings, "DEX", replace(settings.DEX, seed="another"))

    with pytest.raises(SystemExit) as exited:
        call_command("explain", order.id)

    text = capsys.readouterr().out
    assert exited.value.code == 1
    assert "DIFFERS  quotes[0].amountOut: stored" in text
    assert "DIFFERS  transaction: its blockhash is of another seed" in text
    assert text.splitlines()[-1].startswith("does not match")


@pytest.mark.parametrize(
    ("column", "value", "difference"),
    [
        ("amount_out", 1, "fill: stored 1, now"),
        ("amount_in", 7 * 10**9, "quotes[0].amountOut: stored"),
    ],
)
def test_a_row_that_was_changed_does_not_match(
    exchange: Any, column: str, value: int, difference: str
) -> None:
    exchange()
    order = executed()
    setattr(order, column, value)

    (explanation,) = explain(order)

    assert any(line.startswith(difference) for line in explanation.differences)


def test_another_number_of_legs_does_not_match(exchange: Any) -> None:
    exchange(venues=("raydium", "meteora"))
    order = executed()
    order.amount_in = 1_000 * 10**9

    (explanation,) = explain(order)

    assert any(line.startswith("legs: stored [{") for line in explanation.differences)


def test_an_order_of_a_venue_that_is_gone_does_not_match(
    exchange: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange()
    order = executed()
    left = {name: venue for name, venue in SIMULATED.items() if name != order.venue}
    for module in ("dex.exchange", "dex.venues.registry"):
        monkeypatch.setattr(f"{module}.SIMULATED", left)

    with pytest.raises(SystemExit) as exited:
        call_command("explain", order.id)

    text = capsys.readouterr().out
    assert exited.value.code == 1
    assert f"worked out again: there is no simulated venue '{order.venue}', only" in text
    assert text.splitlines()[-1].startswith("does not match: 2 differences; are DEX_SEED")


def test_bytes_of_another_order_do_not_match(exchange: Any) -> None:
    exchange()
    order, other = executed(), executed()
    database.rows(
        "UPDATE orders_swap SET transaction = (SELECT transaction FROM orders_swap "
        "WHERE order_id = %(other)s) WHERE order_id = %(id)s RETURNING signature",
        {"id": order.id, "other": other.id},
    )

    (explanation,) = explain(order)

    assert any(line.startswith("transaction: stored for") for line in explanation.differences)


def test_a_route_that_was_taken_over_before_it_was_signed_has_no_transaction(
    exchange: Any,
) -> None:
    opened = exchange()
    order = claim(place())
    assert order is not None
    asking = EXECUTORS[order.order_type].choose_route(execution.swap_request(order), opened)
    lifecycle.advance(order, Status.BUILDING, data=render.route_json(loop.run(asking)))
    end_lease(order.id)
    execution.execute_order(order.id)

    abandoned, signed = explain(load(order.id))

    assert abandoned.attempt == signed.attempt == 1
    assert abandoned.transaction is None
    assert signed.transaction is not None
    assert not abandoned.differences
    assert not signed.differences


def test_an_order_that_was_never_routed_has_nothing_to_explain(
    capsys: pytest.CaptureFixture[str],
) -> None:
    order = order_in(Status.PENDING)

    assert explained(order, capsys).splitlines()[-1] == "it was never routed"


def test_what_a_live_venue_has_answered_is_not_worked_out_again(
    exchange: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange()
    order = executed()
    event = order.events.get(status=Status.BUILDING)
    other, chosen = event.data["quotes"], event.data["legs"][0]["venue"]
    event.data["quotes"] = [*other, {**other[0], "venue": "orca"}]
    event.save()

    beside = explained(order, capsys)
    event.data["quotes"] = [{**quote, "venue": "orca"} for quote in other]
    event.data["legs"][0]["venue"] = "orca"
    event.save()
    through = explained(order, capsys)

    assert f"{chosen} " in beside
    assert "fill: these bytes return" in beside
    assert "fill: these bytes return" not in through
    for text in (beside, through):
        assert text.splitlines()[-1].startswith("not worked out again: the quotes of orca")


def test_of_an_order_whose_events_were_dropped_nothing_is_said(
    exchange: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange()
    order = executed()
    order.events.all().delete()

    assert explained(order, capsys).splitlines()[-1].startswith("its events were dropped")


def test_an_order_that_is_not_there_is_one_line() -> None:
    with pytest.raises(CommandError, match="there is no order ord_1") as refused:
        call_command("explain", "ord_1")

    assert refused.value.returncode == 2


def test_explain_says_that_the_tables_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        with psycopg.connect(database.conninfo()) as conn:
            conn.execute("SET search_path TO chain")
            conn.execute("SELECT 1 FROM orders_order")

    monkeypatch.setattr(database, "row", missing)

    with pytest.raises(CommandError, match=r"does not exist: run manage\.py migrate$") as refused:
        call_command("explain", "ord_1")
    assert refused.value.returncode == 2


def test_quote_prints_each_venue_and_why(exchange: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exchange()

    call_command("quote", "SOL", "USDC", "1.5", "1000")

    text = capsys.readouterr().out
    assert len(re.findall("^Raydium +cpmm ", text, re.MULTILINE)) == 2
    assert len(re.findall("^Meteora +damm_v2 ", text, re.MULTILINE)) == 2
    assert "route (auto): BEST_PRICE" in text
    assert "route (auto): SPLIT_IMPROVES" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SOL", "DOGE", "1"], "tokenOut: 'DOGE' is not traded here"),
        (["SOL", "SOL", "1"], "tokenOut: tokenIn and tokenOut are the same"),
        (["SOL", "USDC", "much"], "amount: A decimal number"),
        (["SOL", "USDC", "1", "--slippage", "2"], "slippage: A fraction above 0"),
        (["BONK", "SOL", "0.00001"], "raydium: too little to swap"),
    ],
)
def test_quote_says_what_is_wrong_in_a_line(
    exchange: Any, arguments: list[str], message: str
) -> None:
    exchange()

    with pytest.raises(CommandError, match=message):
        call_command("quote", *arguments)
