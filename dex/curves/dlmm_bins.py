"""What one bin of a Meteora DLMM pool takes and gives.

Formulas from MeteoraAg/dlmm-sdk, `ts-client/src/dlmm/helpers/bin.ts` and `fee.ts`, published as
the npm package `@meteora-ag/dlmm` (ISC). Fee rates are over 1,000,000,000.
"""

from operator import add
from typing import NamedTuple

from dex.curves.dlmm_prices import ONE_X64
from dex.curves.integers import U64_MAX, ceil_div

FEE_DENOMINATOR = 1_000_000_000


class Fill(NamedTuple):
    """What one bin takes and gives, in base units; `fee` leaves out `protocol_fee`."""

    amount_in: int
    net_in: int
    gross_out: int
    amount_out: int
    fee: int
    protocol_fee: int

    def plus(self, other: "Fill") -> "Fill":
        return Fill(*map(add, self, other))


NOTHING = Fill(0, 0, 0, 0, 0, 0)


class Bin(NamedTuple):
    """A bin as a swap in one direction meets it; `capacity` is what it holds to pay out."""

    id: int
    price_x64: int
    capacity: int
    fee_rate: int
    protocol_share: int
    swap_for_y: bool
    fee_on_input: bool

    def exact_in(self, amount_in: int) -> Fill:
        """What `amount_in` returns: all of it, or as much as drains the bin."""
        net_in = amount_in
        if self.fee_on_input:
            net_in -= ceil_div(amount_in * self.fee_rate, FEE_DENOMINATOR)
        most = self._input_for(self.capacity)
        if net_in > most:
            net_in = most
            amount_in = self._with_fee(most) if self.fee_on_input else most
        gross_out = self._output_for(net_in) if net_in < most else self.capacity
        fee = self._fee_on(amount_in, net_in, gross_out)
        amount_out = gross_out if self.fee_on_input else gross_out - fee
        protocol_fee = fee * self.protocol_share // 10_000
        return Fill(amount_in, net_in, gross_out, amount_out, fee - protocol_fee, protocol_fee)

    def exact_out(self, amount_out: int) -> Fill:
        """What `amount_out` costs: all of it, or as much as the bin has.

        Where more than one unit is left over by rounding, the protocol has it.
        """
        gross_out = amount_out if self.fee_on_input else self._with_fee(amount_out)
        if gross_out >= self.capacity:
            return self.exact_in(U64_MAX)
        net_in = self._input_for(gross_out)
        fill = self.exact_in(self._with_fee(net_in) if self.fee_on_input else net_in)
        left_over = fill.amount_out - amount_out
        dust = left_over if left_over > 1 else 0
        return fill._replace(amount_out=amount_out, protocol_fee=fill.protocol_fee + dust)

    def _fee_on(self, amount_in: int, net_in: int, gross_out: int) -> int:
        if net_in == 0:
            return 0  # the SDK reports none where nothing reaches the bin
        if self.fee_on_input:
            return amount_in - net_in
        return ceil_div(gross_out * self.fee_rate, FEE_DENOMINATOR)

    def _with_fee(self, amount: int) -> int:
        return ceil_div(amount * FEE_DENOMINATOR, FEE_DENOMINATOR - self.fee_rate)

    def _input_for(self, gross_out: int) -> int:
        if self.swap_for_y:
            return ceil_div(gross_out << 64, self.price_x64)
        return ceil_div(gross_out * self.price_x64, ONE_X64)

    def _output_for(self, net_in: int) -> int:
        if self.swap_for_y:
            return net_in * self.price_x64 >> 64
        return (net_in << 64) // self.price_x64
