"""Tables in a terminal."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from dex.types import without_name

HEADINGS = ("venue", "pool", "returns", "at least", "price", "impact", "fee")


def table(rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines)


def quotes_table(token_out: str, quotes: list[dict[str, Any]]) -> str:
    """Quotes as the API has them; a venue that failed has its error."""
    answered = [quote_row(token_out, quote) for quote in quotes if "error" not in quote]
    failed = [failure_row(quote) for quote in quotes if "error" in quote]
    return "\n".join([*([table([HEADINGS, *answered])] if answered else []), *failed])


def failure_row(quote: dict[str, Any]) -> str:
    venue, error = quote["venue"], quote["error"]
    return f"{venue.capitalize()}: {error['code']}, {without_name(venue, error['detail'])}"


def quote_row(token_out: str, quote: dict[str, Any]) -> tuple[str, ...]:
    return (
        quote["venue"].capitalize(),
        quote["curve"],
        f"{quote['amountOut']} {token_out}",
        quote["minAmountOut"],
        quote["effectivePrice"],
        f"{Decimal(quote['priceImpact']):.3%}",
        f"{quote['fee']} {quote['feeToken']}",
    )
