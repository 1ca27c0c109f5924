"""How to divide an order between two pools so that it returns the most.

Both outputs are concave in their inputs, so there is one best division: where the next unit
returns the same in both pools, or at an end. Constant-product pools have a closed form: with r
and k as in `_line`, the part of a pool is s·r - k, and s follows from the parts adding up.
"""

from collections.abc import Callable, Iterable
from math import isqrt

from dex.pools.base import ConstantProduct, Pool

NEIGHBOURS = 4  # units tried around the closed form, which is real, where amounts are integers
GRID = 20  # cells of 5 %
FINEST = 2**20  # golden section stops at this part of the amount
PROBE = 2**10  # a division of less than this part is worth less than a basis point

_ROOT_SCALE = 2**64

Output = Callable[[int], int]


def best_split(first: Pool, second: Pool, amount_in: int) -> tuple[int, int]:
    """The parts for the two pools; one of them is 0 where a single pool is best."""
    total = _Total(first, second, amount_in)
    product, other = first.constant_product, second.constant_product
    if product is not None and other is not None:
        part = _closed_form(product, other, amount_in)
        if not -NEIGHBOURS < part < amount_in + NEIGHBOURS:  # one pool is better to the last unit
            return (0, amount_in) if part < 0 else (amount_in, 0)
        candidates: Iterable[int] = range(part - NEIGHBOURS, part + NEIGHBOURS + 1)
    elif total.gains_inside():
        candidates = _grid_and_golden_section(total, amount_in)
    else:
        candidates = ()
    inside = [part for part in candidates if 0 < part < amount_in]
    best = max((0, amount_in, *inside), key=total)
    return (best, amount_in - best) if total(best) > 0 else (0, amount_in)


class _Total:
    """What both pools return together when the first takes `part`.

    Below 0 where one refuses its part, by the size of that: it grows towards what both take.
    """

    def __init__(self, first: Pool, second: Pool, amount_in: int) -> None:
        self._first = first, _most_out(first)
        self._second = second, _most_out(second)
        self._amount_in = amount_in
        self._known: dict[int, int] = {}

    def __call__(self, part: int) -> int:
        if part not in self._known:
            self._known[part] = self._together(part, self._amount_in - part)
        return self._known[part]

    def _together(self, part: int, other_part: int) -> int:
        output = _output(*self._first, part)
        if output is None:
            return -part
        other = _output(*self._second, other_part)
        return -other_part if other is None else output + other

    def gains_inside(self) -> bool:
        """Whether a little moved off the better end to the other pool returns more."""
        step = max(1, self._amount_in // PROBE)
        if self(0) > self(self._amount_in):
            return self(step) > self(0)
        return self(self._amount_in - step) > self(self._amount_in)


def _most_out(pool: Pool) -> int:
    """A percent less than drains the pool, which may change until the swap lands."""
    return pool.reserve_out * 98 // 100


def _output(pool: Pool, most_out: int, part: int) -> int | None:
    if part == 0:
        return 0
    try:
        swap = pool.swap(part)
    except ValueError:
        return None
    return swap.amount_out if swap.amount_out > 0 and swap.gross_out <= most_out else None


def _closed_form(first: ConstantProduct, second: ConstantProduct, amount_in: int) -> int:
    """The first pool's part, within a few units."""
    (root, offset), (other_root, other_offset) = _line(first), _line(second)
    return (amount_in + offset + other_offset) * root // (root + other_root) - offset


def _line(pool: ConstantProduct) -> tuple[int, int]:
    """(r, k). Fee on the input: r = √(x·y/g), k = x/g; on the output: r = √(g·x·y), k = x."""
    kept, product = pool.kept, pool.reserve_in * pool.reserve_out
    if pool.fee_on_input:
        root = isqrt(product * _ROOT_SCALE * kept.denominator // kept.numerator)
        return root, pool.reserve_in * kept.denominator // kept.numerator
    return isqrt(product * _ROOT_SCALE * kept.numerator // kept.denominator), pool.reserve_in


def _grid_and_golden_section(total: Output, amount_in: int) -> Iterable[int]:
    points = [amount_in * cell // GRID for cell in range(GRID + 1)]
    best = max(range(GRID + 1), key=lambda cell: total(points[cell]))
    low, high = points[max(best - 1, 0)], points[min(best + 1, GRID)]
    step = max(1, amount_in // PROBE)
    around = _golden_section(total, low, high, finest=max(1, amount_in // FINEST))
    # Where only a division finer than a cell gains, the grid sees an end.
    return (points[best], step, amount_in - step, *around)


def _golden_section(total: Output, low: int, high: int, *, finest: int) -> tuple[int, ...]:
    """Each turn leaves one of the two points inside where the next one has it."""
    left, right = low + _shorter(low, high), high - _shorter(low, high)
    while high - low > max(finest, 3):
        if total(left) < total(right):
            low, left = left, right
            right = high - _shorter(low, high)
        else:
            high, right = right, left
            left = low + _shorter(low, high)
    return low, (low + high) // 2, high


def _shorter(low: int, high: int) -> int:
    """0.382 of the way: two numbers of Fibonacci, so that points are left where they are due."""
    return (high - low) * 832_040 // 2_178_309
