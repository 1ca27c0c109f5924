"""The curves against what the venues' own SDKs answer, and what they refuse."""

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dex.curves import meteora_damm_v2

FILES = sorted(Path(__file__).with_name("vectors").glob("*.json"))
CASES = {
    "meteora_damm_v2_exact_in": 80,
    "meteora_damm_v2_exact_out": 80,
    "meteora_dlmm_exact_in": 80,
    "meteora_dlmm_exact_out": 80,
    "meteora_dlmm_price": 80,
    "raydium_amm_v4_exact_in": 80,
    "raydium_clmm_step": 80,
    "raydium_clmm_swap": 80,
    "raydium_clmm_ticks": 80,
    "raydium_cpmm_exact_in": 80,
    "raydium_cpmm_exact_out": 80,
}


def plain(value: Any) -> Any:
    """Integers are decimal strings where they may pass 2^53."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, str) else value


def fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in values.items()}


def function(call: str) -> Callable[..., Mapping[str, Any]]:
    module, _, name = call.rpartition(".")
    return getattr(import_module(module), name)


def first_case(name: str) -> tuple[Callable[..., Mapping[str, Any]], dict[str, Any]]:
    content = json.loads(next(file for file in FILES if file.stem == name).read_text())
    return function(content["call"]), fields(content["cases"][0]["in"])


def test_every_file_of_vectors_is_here() -> None:
    assert {file.stem for file in FILES} == CASES.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_vector_is_answered_to_the_unit(file: Path) -> None:
    content = json.loads(file.read_text())
    ask = function(content["call"])

    assert len(content["cases"]) == CASES[file.stem]
    for case in content["cases"]:
        wanted = fields(case["out"])
        answer = ask(**fields(case["in"]))
        assert {key: answer[key] for key in wanted} == wanted, case["in"]


@pytest.mark.parametrize("name", [name for name in CASES if "_exact_" in name])
@pytest.mark.parametrize("amount", [-1, 0, 2**64])
def test_an_amount_outside_u64_is_refused(name: str, amount: int) -> None:
    ask, given = first_case(name)
    key = "amount_in" if name.endswith("in") else "amount_out"

    with pytest.raises(ValueError, match="between 1 and"):
        ask(**given | {key: amount})


@pytest.mark.parametrize("name", ["raydium_cpmm_exact_out", "meteora_damm_v2_exact_out"])
def test_no_pool_gives_all_it_has(name: str) -> None:
    ask, given = first_case(name)
    reserve = given["reserve_out" if name.startswith("raydium") else "reserve_b"]

    with pytest.raises(ValueError, match=r"pool|position"):
        ask(**given | {"amount_out": reserve})


def test_a_swap_that_leaves_the_price_range_is_refused() -> None:
    file = next(file for file in FILES if file.stem == "meteora_damm_v2_exact_in")
    given = next(
        given
        for given in (fields(case["in"]) for case in json.loads(file.read_text())["cases"])
        if given["collect_fee_mode"] == 0 and given["sqrt_min_price"] > 2**60
    )

    with pytest.raises(ValueError, match="outside the range"):
        meteora_damm_v2.exact_in(**given | {"amount_in": 2**64 - 1})
