"""The fast FIFO fold: plain deals as integer columns, exact in 128 bits, compiled by numba.

Quantity and price are 64-bit counts of units that may differ from position to position (cents here,
1e-8 there); every result is a count of the product of the two. What is realised follows from the
cash: realised - cost basis = - sum of quantity * price, so the loop moves units only and no
rounding can arise. What does not fit (a sum beyond 64 bits of quantity or 126 bits of money) is
named, nothing having changed, and is the reference fold's to do.
"""

from typing import Any, Final, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from domain.errors import InvalidValue

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]

_LOW_64: Final = (1 << 64) - 1
_MOST_SLOTS: Final = (1 << 31) - 1


class DoesNotFit(Struct, frozen=True):
    """These positions (indices) overflow; no state has changed, so fold them by the reference."""

    positions: tuple[int, ...]


class OpenLots(Struct, frozen=True, eq=False):
    """Open lots by position, oldest first; `row` opened each, counted over all calls.

    `quantity` is what was opened, `remaining` what is left of it, signed like the position.
    """

    position: Int32s
    row: Int64s
    quantity: Int64s
    remaining: Int64s
    price: Int64s


class KernelResult(Struct, frozen=True, eq=False):
    """What a fold of columns came to, and the state that the next one resumes from.

    By position: `quantity`, and in two halves of 128 bits `paid` (sum of quantity * price over all
    rows) and `cost` (the open lots' cost). `rows` counts those of all calls. `opened` and
    `remaining` say for each row of this call what lot it opened and what is left of that;
    `carried_remaining` what is left of each lot that the state had. Units are signed.
    """

    rows: int
    quantity: Int64s
    paid_high: Int64s
    paid_low: Int64s
    cost_high: Int64s
    cost_low: Int64s
    lots: OpenLots
    opened: Int64s
    remaining: Int64s
    carried_remaining: Int64s

    @classmethod
    def empty(cls) -> Self:
        """Return the state before any row."""
        none, none32 = np.zeros(0, np.int64), np.zeros(0, np.int32)
        lots = OpenLots(none32, none, none, none, none)
        return cls(0, none, none, none, none, none, lots, none, none, none)

    def cost_basis(self) -> list[int]:
        """Return the open lots' cost by position, exact, in quantity units * price units."""
        return _whole(self.cost_high, self.cost_low)

    def realised(self) -> list[int]:
        """Return the realised P&L by position, exact, in quantity units * price units."""
        paid = _whole(self.paid_high, self.paid_low)
        return [cost - out for cost, out in zip(self.cost_basis(), paid, strict=True)]


def fold_columns(
    position_index: Int32s,
    quantity: Int64s,
    price: Int64s,
    state: KernelResult | None = None,
    positions: int | None = None,
) -> KernelResult | DoesNotFit:
    """Fold rows in trade order, plain FIFO deals of any number of positions, from a state on.

    `position_index` counts positions from 0, `positions` (default: as many as are seen) says how
    many there are. `quantity` is signed, buy positive, never 0; `price` may be negative. The state
    is left as it was. Raises InvalidValue for columns that are not alike, a quantity of 0 or a
    position out of range.
    """
    from projections.positions.kernel_loop import (
        fold_rows,
        value_lots,
    )  # numba: half a second to import

    before = state or KernelResult.empty()
    seen = int(position_index.max()) + 1 if len(position_index) else 0
    size = max(positions or seen, len(before.quantity))
    _check(position_index, quantity, price, size)
    rows, carried = len(quantity), len(before.lots.row)
    if carried + rows > _MOST_SLOTS:
        raise InvalidValue("rows", carried + rows, f"at most {_MOST_SLOTS} rows and open lots")
    held = _grown(before.quantity, size)
    paid_high, paid_low = _grown(before.paid_high, size), _grown(before.paid_low, size)
    opened = _grown(before.lots.quantity, carried + rows)
    remaining = _grown(before.lots.remaining, carried + rows)
    first, last, following = _links(before.lots.position, size, carried + rows)
    misfit = np.zeros(size, np.bool_)
    index = np.ascontiguousarray(position_index, np.int32)
    units, prices = (np.ascontiguousarray(column, np.int64) for column in (quantity, price))
    by_position = (held, paid_high, paid_low, first, last)
    fold_rows(index, units, prices, carried, *by_position, opened, remaining, following, misfit)
    if misfit.any():
        return _misfits(misfit)
    lots = _open_lots(before, prices, first, opened, remaining, following)
    cost_high, cost_low = np.zeros(size, np.int64), np.zeros(size, np.int64)
    value_lots(lots.position, lots.remaining, lots.price, cost_high, cost_low, misfit)
    if misfit.any():
        return _misfits(misfit)
    return KernelResult(
        before.rows + rows,
        held,
        paid_high,
        paid_low,
        cost_high,
        cost_low,
        lots,
        opened[carried:],
        remaining[carried:],
        remaining[:carried],
    )


def _misfits(misfit: NDArray[np.bool_]) -> DoesNotFit:
    return DoesNotFit(tuple(np.flatnonzero(misfit).tolist()))


def _check(position_index: Int32s, quantity: Int64s, price: Int64s, size: int) -> None:
    columns: dict[str, NDArray[Any]] = {
        "position_index": position_index,
        "quantity": quantity,
        "price": price,
    }
    for name, column in columns.items():
        if not np.can_cast(column.dtype, np.int64):
            raise InvalidValue(name, column.dtype, "integers that fit 64 bits with a sign")
        if column.shape != position_index.shape:
            expected = f"as many rows as position_index has, {position_index.shape}"
            raise InvalidValue(name, column.shape, expected)
    if not quantity.all():
        raise InvalidValue("quantity", 0, "a quantity other than 0 in every row")
    if len(position_index) and not 0 <= position_index.min() <= position_index.max() < size:
        worst = position_index[(position_index < 0) | (position_index >= size)][0]
        raise InvalidValue("position_index", worst, f"a position from 0 to {size - 1}")


def _grown(column: Int64s, size: int) -> Int64s:
    grown = np.zeros(size, np.int64)
    grown[: len(column)] = column
    return grown


def _links(lot_position: Int32s, size: int, slots: int) -> tuple[Int32s, Int32s, Int32s]:
    """Link the carried lots, which lie by position, oldest first, in the slots from 0 on."""
    first, last = np.full(size, -1, np.int32), np.full(size, -1, np.int32)
    following = np.empty(slots, np.int32)
    carried = len(lot_position)
    if carried:
        slot = np.arange(carried, dtype=np.int32)
        ends = np.append(lot_position[1:] != lot_position[:-1], True)
        starts = np.append(True, ends[:-1])
        first[lot_position[starts]] = slot[starts]
        last[lot_position[ends]] = slot[ends]
        following[:carried] = np.where(ends, -1, slot + 1)
    return first, last, following


def _open_lots(
    before: KernelResult,
    price: Int64s,
    first: Int32s,
    opened: Int64s,
    remaining: Int64s,
    following: Int32s,
) -> OpenLots:
    from projections.positions.kernel_loop import list_lots

    count, carried = int(np.count_nonzero(remaining)), len(before.lots.row)
    position, slot = np.empty(count, np.int32), np.empty(count, np.int32)
    list_lots(first, following, position, slot)
    old = slot < carried
    row = slot.astype(np.int64) - carried + before.rows
    row[old] = before.lots.row[slot[old]]
    lot_price = np.empty(count, np.int64)
    lot_price[old] = before.lots.price[slot[old]]
    lot_price[~old] = price[slot[~old] - carried]
    return OpenLots(position, row, opened[slot], remaining[slot], lot_price)


def _whole(high: Int64s, low: Int64s) -> list[int]:
    halves = zip(high.tolist(), low.tolist(), strict=True)
    return [(above << 64) + (below & _LOW_64) for above, below in halves]
