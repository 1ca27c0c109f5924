"""JSON in without losing a digit, JSON out whatever the client accepts."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import IO, Any, Never

from rest_framework.exceptions import APIException, ParseError, UnsupportedMediaType
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

MAX_BODY_BYTES = 256 * 1024
BODY_TOO_LONG = f"The body is larger than {MAX_BODY_BYTES} bytes."
MAX_DEPTH = 32
LONGEST_INT = 100
IDENTITY = "identity"


def printable(text: str) -> str:
    """On one line, storable (PostgreSQL takes no NUL) and nothing to a terminal but letters."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def loads(text: bytes | str) -> Any:
    """JSON with exact decimals. Raises ValueError with a sentence for the client."""
    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode("utf-8-sig"),
            parse_int=whole_number,
            parse_float=decimal_number,
            parse_constant=refuse_constant,
            object_pairs_hook=without_duplicates,
        )
        refuse_depth(value)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("the JSON is not UTF-8") from None
    return value


def whole_number(text: str) -> int | Decimal:
    """Exactly; longer ones than Python reads as int are right JSON as well."""
    return int(text) if len(text) <= LONGEST_INT else Decimal(text)


def decimal_number(text: str) -> Decimal:
    """Exactly; one whose exponent nobody can reckon with is too large for any field."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("Infinity")


def refuse_depth(value: Any) -> None:
    """What the parser itself bears depends on the release of Python."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in members(outer)]
        if not level:
            return
    raise ValueError("the JSON is nested too deeply")


def members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in times if times[name] > 1)
        raise ValueError(f"{twice!r} is given twice")
    return found


class TooLarge(APIException):
    status_code = 413


class DecimalJSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        request = (parser_context or {}).get("request")
        coding = request.headers.get("Content-Encoding", IDENTITY) if request else IDENTITY
        if coding.lower() != IDENTITY:
            raise UnsupportedMediaType(
                coding, f"Content-Encoding {coding}: send the body as it is."
            )
        body = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(BODY_TOO_LONG)
        try:
            return loads(body)
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}.") from None


class AlwaysJSON(DefaultContentNegotiation):
    """A browser that asks for HTML gets JSON, not 406."""

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
