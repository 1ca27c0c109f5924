"""A Meteora DLMM pool of the simulated market: bins 0.2 % apart around the price, at 0.2 %."""

from dataclasses import dataclass, replace
from fractions import Fraction

from dex.curves import dlmm_prices, meteora_dlmm
from dex.pools.base import PARTS, ConstantProduct, CurveSwap, Depth

BIN_STEP = 20  # basis points
BASE_FACTOR = 10_000
BINS = 200  # on either side of the active one

# A constant-product pool has about half a bin step of its reserve in each bin. Near the price:
CONCENTRATION = 3
NEAR = 30

_FEES_AND_VOLATILITY = {
    "bin_step": BIN_STEP,
    "base_factor": BASE_FACTOR,
    "base_fee_power_factor": 0,
    "filter_period": 30,
    "decay_period": 600,
    "reduction_factor": 5_000,
    "variable_fee_control": 0,
    "max_volatility_accumulator": 350_000,
    "protocol_share": 1_000,
    "volatility_accumulator": 0,
    "volatility_reference": 0,
    "elapsed": 0,
    "fee_only_y": False,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DlmmPool:
    """`amounts` of the output token in the active bin and those that come after it."""

    active_id: int
    amounts: tuple[int, ...]
    swap_for_y: bool

    @property
    def mid(self) -> Fraction:
        price = Fraction(_price(self.active_id), 1 << 64)
        return price if self.swap_for_y else 1 / price

    @property
    def reserve_out(self) -> int:
        return sum(self.amounts)

    @property
    def constant_product(self) -> ConstantProduct | None:
        return None

    def swap(self, amount_in: int) -> CurveSwap:
        answer = meteora_dlmm.exact_in(
            active_id=self.active_id,
            index_reference=self.active_id,
            swap_for_y=self.swap_for_y,
            bins=self._bins(),
            amount_in=amount_in,
            **_FEES_AND_VOLATILITY,
        )
        return CurveSwap(
            amount_in=amount_in,
            net_in=answer["net_in"],
            gross_out=answer["gross_out"],
            amount_out=answer["amount_out"],
            fee=answer["fee"] + answer["protocol_fee"],
            fee_on_input=True,
        )

    def drifted(self, drift: int) -> "DlmmPool":
        """Everything moves by whole bins, towards less drift."""
        bins = _whole_bins(PARTS + drift)
        ratio = _price(bins)  # of what is returned, whichever token that is
        return replace(
            self,
            active_id=self.active_id + (bins if self.swap_for_y else -bins),
            amounts=tuple(amount * ratio >> 64 for amount in self.amounts),
        )

    def _bins(self) -> list[tuple[int, int, int]]:
        if self.swap_for_y:
            return [(self.active_id - n, 0, y) for n, y in enumerate(self.amounts)]
        return [(self.active_id + n, x, 0) for n, x in enumerate(self.amounts)]


def pool(depth: Depth) -> DlmmPool:
    sides = (depth.reserve_in, depth.reserve_out)
    reserve_x, reserve_y = sides if depth.a_to_b else sides[::-1]
    in_a_bin = depth.reserve_out * BIN_STEP // 20_000
    near = (in_a_bin * CONCENTRATION,) * NEAR
    return DlmmPool(
        active_id=dlmm_prices.bin_at(BIN_STEP, (reserve_y << 64) // reserve_x),
        amounts=(in_a_bin * CONCENTRATION // 2, *near, *(in_a_bin,) * (BINS - NEAR)),
        swap_for_y=depth.a_to_b,
    )


def _whole_bins(ratio: int) -> int:
    """Bins between 1 and `ratio` over PARTS, rounded towards 1."""
    below = dlmm_prices.bin_at(BIN_STEP, (ratio << 64) // PARTS)
    return below if ratio >= PARTS else below + 1


def _price(bin_id: int) -> int:
    return dlmm_prices.price_of(BIN_STEP, bin_id)
