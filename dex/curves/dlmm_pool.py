"""State of a Meteora DLMM pool, its fee rates and the way of a swap through its bins.

Formulas from MeteoraAg/dlmm-sdk, `commons/src/extensions/lb_pair.rs`, and the npm package
`@meteora-ag/dlmm` (ISC), `src/dlmm/index.ts` and `helpers/fee.ts`. Limit orders are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dex.curves.dlmm_bins import Bin
from dex.curves.dlmm_prices import price_of
from dex.curves.integers import ceil_div, require_amount

MAX_FEE_RATE = 100_000_000  # over 1,000,000,000: a tenth


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """State of a pool before a swap.

    `bins` are (id, amount_x, amount_y) in any order; those left out are empty. `elapsed` is the
    time since the pool's last update; it and the two periods are in seconds. `protocol_share`
    and `reduction_factor` are in basis points. `fee_only_y` takes the fee from Y in both
    directions, otherwise it is on the input.
    """

    bin_step: int
    active_id: int
    bins: Sequence[Sequence[int | str]]
    base_factor: int
    base_fee_power_factor: int = 0
    protocol_share: int = 0
    fee_only_y: bool = False
    variable_fee_control: int = 0
    filter_period: int = 0
    decay_period: int = 0
    reduction_factor: int = 0
    max_volatility_accumulator: int = 0
    volatility_accumulator: int = 0
    volatility_reference: int = 0
    index_reference: int = 0
    elapsed: int = 0

    def path(self, *, swap_for_y: bool) -> Iterator[Bin]:
        """The bins that hold the token bought, in the order a swap reaches them.

        ValueError for an amount of it above 2^64 - 1 and for an id without a price.
        """
        volatility_reference, index_reference = self._references()
        for bin_id, capacity in self._ahead(swap_for_y=swap_for_y):
            require_amount(f"the amount in bin {bin_id}", capacity)
            moved = abs(index_reference - bin_id) * 10_000
            volatility = min(volatility_reference + moved, self.max_volatility_accumulator)
            yield Bin(
                id=bin_id,
                price_x64=price_of(self.bin_step, bin_id),
                capacity=capacity,
                fee_rate=self._fee_rate(volatility),
                protocol_share=self.protocol_share,
                swap_for_y=swap_for_y,
                fee_on_input=not (self.fee_only_y and swap_for_y),
            )

    def _ahead(self, *, swap_for_y: bool) -> list[tuple[int, int]]:
        if swap_for_y:
            held = [(int(id_), int(y)) for id_, _, y in self.bins if int(id_) <= self.active_id]
        else:
            held = [(int(id_), int(x)) for id_, x, _ in self.bins if int(id_) >= self.active_id]
        return sorted((bin_ for bin_ in held if bin_[1]), reverse=swap_for_y)

    def _references(self) -> tuple[int, int]:
        """(volatility reference, index reference), moved on where the last update is old."""
        if self.elapsed < self.filter_period:
            return self.volatility_reference, self.index_reference
        if self.elapsed < self.decay_period:
            return self.volatility_accumulator * self.reduction_factor // 10_000, self.active_id
        return 0, self.active_id

    def _fee_rate(self, volatility: int) -> int:
        base: int = self.base_factor * self.bin_step * 10 * 10**self.base_fee_power_factor
        square = (volatility * self.bin_step) ** 2
        variable = ceil_div(self.variable_fee_control * square, 100_000_000_000)
        return min(base + variable, MAX_FEE_RATE)
