"""The curves against what the venues' own SDKs answer, and what they refuse."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dex.curves import meteora_damm_v2, raydium_cpmm

VECTORS = Path(__file__).with_name("vectors")
CURVES: dict[str, Callable[..., Mapping[str, int]]] = {
    "raydium_cpmm_exact_in": raydium_cpmm.exact_in,
    "raydium_cpmm_exact_out": raydium_cpmm.exact_out,
    "meteora_damm_v2_exact_in": meteora_damm_v2.exact_in,
    "meteora_damm_v2_exact_out": meteora_damm_v2.exact_out,
}


def plain(values: Mapping[str, object]) -> dict[str, object]:
    return {name: int(value) if isinstance(value, str) else value for name, value in values.items()}


def cases(name: str) -> list[tuple[dict[str, object], dict[str, object]]]:
    content = json.loads((VECTORS / f"{name}.json").read_text())
    return [(plain(case["in"]), plain(case["out"])) for case in content["cases"]]


@pytest.mark.parametrize("name", CURVES)
def test_every_vector_is_answered_to_the_unit(name: str) -> None:
    expected = cases(name)

    answers = [CURVES[name](**given) for given, _ in expected]

    assert len(answers) == 80
    for answer, (_, wanted) in zip(answers, expected, strict=True):
        assert {key: answer[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("amount", [-1, 0, 2**64])
def test_an_amount_outside_u64_is_refused(name: str, amount: int) -> None:
    given, _ = cases(name)[0]
    key = "amount_in" if name.endswith("in") else "amount_out"

    with pytest.raises(ValueError, match="between 1 and"):
        CURVES[name](**given | {key: amount})


@pytest.mark.parametrize("name", ["raydium_cpmm_exact_out", "meteora_damm_v2_exact_out"])
def test_no_pool_gives_all_it_has(name: str) -> None:
    given, _ = cases(name)[0]
    reserve = given["reserve_out" if name.startswith("raydium") else "reserve_b"]

    with pytest.raises(ValueError, match=r"pool|position"):
        CURVES[name](**given | {"amount_out": reserve})


def test_a_swap_that_leaves_the_price_range_is_refused() -> None:
    given = next(
        given
        for given, _ in cases("meteora_damm_v2_exact_in")
        if given["collect_fee_mode"] == 0 and given["sqrt_min_price"] > 2**60
    )

    with pytest.raises(ValueError, match="outside the range"):
        meteora_damm_v2.exact_in(**given | {"amount_in": 2**64 - 1})


@pytest.mark.parametrize("amount_in", [1, 2, 333, 10**6, 10**12 + 7, 2**63])
def test_buying_back_the_output_never_costs_more_than_was_paid(amount_in: int) -> None:
    pool = {"reserve_in": 10**13, "reserve_out": 15 * 10**11, "trade_fee_rate": 3_000}
    amount_out = raydium_cpmm.exact_in(amount_in=amount_in, **pool)["amount_out"]

    if amount_out:
        assert raydium_cpmm.exact_out(amount_out=amount_out, **pool)["amount_in"] <= amount_in
