"""Integer arithmetic the curves share. Amounts of tokens are u64, as on chain."""

U64_MAX = 2**64 - 1


def ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def require_amount(name: str, amount: int) -> None:
    """Raise ValueError unless 1 <= amount <= 2^64 - 1."""
    if not 1 <= amount <= U64_MAX:
        raise ValueError(f"{name} must be between 1 and 2^64 - 1, not {amount}")


def require_reserves(reserve_in: int, reserve_out: int) -> None:
    require_amount("reserve_in", reserve_in)
    require_amount("reserve_out", reserve_out)
