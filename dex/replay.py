"""What was decided and what landed, worked out again: the market is a pure function of its seed."""

from collections.abc import Iterable
from dataclasses import dataclass

from dex.decision import decide
from dex.decoding import decode_transaction
from dex.errors import PoolTooSmall
from dex.exchange import ExchangeConfig, open_market, open_rules
from dex.instructions import DecodedTransaction
from dex.simulation.blocks import height_of
from dex.simulation.pools import quote_at
from dex.simulation.settlement import Outcome
from dex.types import Quote, QuoteFailure, Route, Strategy, SwapRequest
from dex.venues.registry import program_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A venue that was asked for a quote, and the block of its answer, a refusal or not."""

    venue: str
    curve: str
    block_height: int


def replay_route(
    config: ExchangeConfig,
    request: SwapRequest,
    *,
    answers: Iterable[Asked | QuoteFailure],
    strategy: Strategy,
) -> Route:
    """The decision on the same blocks, with the failures that there were; in their order.

    Raises DexError where the market of this seed has no such quote, ValueError for a venue or
    curve that is not there any more.
    """
    market = open_market(config)
    quotes: list[Quote] = []
    failures: list[QuoteFailure] = []
    for one in answers:
        if isinstance(one, QuoteFailure):
            failures.append(one)
            continue
        program = program_of(one.venue, one.curve)
        try:
            quotes.append(quote_at(market, program, request, one.block_height))
        except PoolTooSmall as error:
            failures.append(QuoteFailure.of(one.venue, error))
    return decide(request, quotes=tuple(quotes), failures=tuple(failures), strategy=strategy)


def replay_outcome(
    config: ExchangeConfig, transaction: bytes
) -> tuple[DecodedTransaction, Outcome | None]:
    """What the bytes say, and what the chain makes of them; None for a blockhash of another seed.

    Raises OrderRejected for bytes that no chain takes.
    """
    rules = open_rules(config)
    decoded = decode_transaction(transaction, rules.layouts)
    height = height_of(config.seed, decoded.blockhash)
    return decoded, None if height is None else rules.outcome_of(decoded, height)
