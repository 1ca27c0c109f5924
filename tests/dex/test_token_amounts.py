import re
from decimal import Decimal

import pytest

from dex import tokens
from dex.tokens import BONK, SOL, TOKENS, USDC


@pytest.mark.parametrize("name", ["SOL", "sol", "WSOL", "wSOL", SOL.mint])
def test_sol_is_found_by_symbol_alias_and_mint(name: str) -> None:
    assert tokens.find(name) is SOL


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token.symbol)
def test_every_token_is_found_by_symbol_and_mint(token: tokens.Token) -> None:
    assert tokens.find(token.symbol) is token
    assert tokens.find(token.mint) is token


@pytest.mark.parametrize("name", ["", "DOGE", SOL.mint.lower(), SOL.mint[:-1]])
def test_nothing_else_is_found(name: str) -> None:
    assert tokens.find(name) is None


@pytest.mark.parametrize(
    ("token", "amount", "units"),
    [
        (SOL, "1.5", 1_500_000_000),
        (SOL, "0.000000001", 1),
        (SOL, "1.50000000000000000000000000000000", 1_500_000_000),
        (USDC, "1e3", 1_000_000_000),
        (BONK, "0.00001", 1),
        (SOL, "18446744073.709551615", 2**64 - 1),
    ],
)
def test_base_units_are_exact(token: tokens.Token, amount: str, units: int) -> None:
    assert tokens.to_base_units(token, Decimal(amount)) == units


@pytest.mark.parametrize(
    "amount",
    [
        "0",
        "-1",
        "0.0000000001",
        "0.100000000000000005",
        "18446744073.709551616",
        "1e1000000",
        "1e-1000000",
        "NaN",
        "sNaN",
        "Infinity",
    ],
)
def test_an_amount_that_is_no_u64_of_base_units_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="SOL"):
        tokens.to_base_units(SOL, Decimal(amount))


def test_a_refusal_says_how_much_is_taken() -> None:
    """And not by how much the engine gave up reckoning."""
    with pytest.raises(ValueError, match=r"^10{26} .* at most 18446744073\.709551615 is expected$"):
        tokens.to_base_units(SOL, Decimal("1e26"))


@pytest.mark.parametrize(
    ("token", "units", "text"),
    [
        (SOL, 1_500_000_000, "1.5"),
        (SOL, 1, "0.000000001"),
        (USDC, 100_000_000, "100"),
        (USDC, 0, "0"),
        (SOL, 2**64 - 1, "18446744073.709551615"),
    ],
)
def test_amounts_are_written_plain_and_exact(token: tokens.Token, units: int, text: str) -> None:
    assert tokens.format_amount(token, units) == text
    assert tokens.to_decimal(token, units) == Decimal(text)


def test_fixed_amounts_keep_their_zeros() -> None:
    assert tokens.format_fixed(USDC, 142_310_000) == "142.310000"


@pytest.mark.parametrize(
    ("sent", "shown"), [("1E-10", "0.0000000001"), ("1E-99", "1E-99"), ("1E+99", "1E+99")]
)
def test_a_refusal_repeats_the_amount_as_people_write_it(sent: str, shown: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(shown)} is not an amount of SOL"):
        tokens.to_base_units(SOL, Decimal(sent))
