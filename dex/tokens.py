"""The tokens this build trades, and the way between whole tokens and base units."""

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow

from dex.curves.integers import U64_MAX
from dex.types import Token

SOL = Token(symbol="SOL", mint="So11111111111111111111111111111111111111112", decimals=9)
USDC = Token(symbol="USDC", mint="EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", decimals=6)
USDT = Token(symbol="USDT", mint="Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", decimals=6)
RAY = Token(symbol="RAY", mint="4k3Dyjzvzp8eMZWUXbBCjEvwSkkk59S5iCNLY3QrkX6R", decimals=6)
JUP = Token(symbol="JUP", mint="JUPyiwrYJFskUPiHa7hkeR8VUtAeFoSYbKedZNsDvCN", decimals=6)
BONK = Token(symbol="BONK", mint="DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263", decimals=5)

TOKENS = (SOL, USDC, USDT, RAY, JUP, BONK)

_BY_MINT = {token.mint: token for token in TOKENS}
BY_SYMBOL = {token.symbol: token for token in TOKENS} | {"WSOL": SOL}
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])


def find(symbol_or_mint: str) -> Token | None:
    """Symbols in any case, mints exactly as written. WSOL is SOL."""
    if not symbol_or_mint.isascii():  # there are more letters than S whose capital is S
        return None
    return _BY_MINT.get(symbol_or_mint) or BY_SYMBOL.get(symbol_or_mint.upper())


def to_base_units(token: Token, amount: Decimal) -> int:
    """ValueError unless `amount` is a whole number of base units within 1 … 2^64 - 1."""
    too_large = amount.is_finite() and amount.adjusted() + token.decimals >= 20
    try:
        scaled = amount if too_large else _EXACT.scaleb(amount, token.decimals)
        units = U64_MAX + 1 if too_large else int(_EXACT.to_integral_exact(scaled))
    except (ArithmeticError, ValueError):
        no_amount = f"{shown(amount)} is not an amount of {token.symbol}"
        raise ValueError(f"{no_amount}, which has {token.decimals} decimals") from None
    if not 1 <= units <= U64_MAX:
        most = format_amount(token, U64_MAX)
        no_amount = f"{shown(amount)} is not an amount of {token.symbol}"
        raise ValueError(f"{no_amount}: above 0 and at most {most} is expected")
    return units


def shown(amount: Decimal) -> str:
    """In plain notation, where that is no longer than a line."""
    return f"{amount:f}" if amount.is_finite() and abs(amount.adjusted()) < 40 else f"{amount}"


def to_decimal(token: Token, amount: int) -> Decimal:
    """Whole tokens, exact, without trailing zeros. For text use format_amount()."""
    return Decimal(format_amount(token, amount))


def format_amount(token: Token, amount: int) -> str:
    """Whole tokens, exact, in plain notation: "1.5", "100", "0.000000001"."""
    text = format_fixed(token, amount)
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_fixed(token: Token, amount: int) -> str:
    """Whole tokens with all decimals of the token: "1.500000"."""
    sign, digits = ("-" if amount < 0 else ""), str(abs(amount)).zfill(token.decimals + 1)
    whole = len(digits) - token.decimals
    return f"{sign}{digits[:whole]}.{digits[whole:]}" if token.decimals else f"{sign}{digits}"
