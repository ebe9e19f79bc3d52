"""The compiled inner loops of the column fold. Importing this loads numba: import it late.

Every row has a slot of its own in one pool of lots: slots below `carried` are lots carried over
from an earlier fold, slot `carried + row` is the lot that the row opens. A position's open lots
are a linked list through the pool, oldest first. The machine code is cached in `__pycache__`, or
in the user's cache folder where that cannot be written (numba's own rule; `NUMBA_CACHE_DIR`
overrides it).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Bools = NDArray[np.bool_]

_I64 = ir.IntType(64)
_I128 = ir.IntType(128)


def _add_product(_typing: Any, high: Any, low: Any, left: Any, right: Any) -> Any:
    """Return (high, low) + left * right in 128 bits; numba has no such integers of its own."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        high_bits, low_bits, a, b = args
        shift = ir.Constant(_I128, 64)
        total = builder.or_(
            builder.shl(builder.sext(high_bits, _I128), shift), builder.zext(low_bits, _I128)
        )
        product = builder.mul(builder.sext(a, _I128), builder.sext(b, _I128))
        total = builder.add(total, product)
        parts = [builder.trunc(builder.ashr(total, shift), _I64), builder.trunc(total, _I64)]
        return context.make_tuple(builder, signature.return_type, parts)

    return _signature((types.int64, types.int64), high, low, left, right), generate


def _add_checked(_typing: Any, left: Any, right: Any) -> Any:
    """Return left + right and whether it overflowed 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pair = builder.sadd_with_overflow(*args)
        parts = [builder.extract_value(pair, 0), builder.extract_value(pair, 1)]
        return context.make_tuple(builder, signature.return_type, parts)

    return _signature((types.int64, types.boolean), left, right), generate


def _signature(results: tuple[Any, ...], *arguments: Any) -> Any:
    make_tuple: Any = types.Tuple
    return make_tuple(results)(*arguments)


add_product: Any = intrinsic(_add_product)
add_checked: Any = intrinsic(_add_checked)


def _compile(signature: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        try:
            compiled: Callable[..., None] = njit(signature, cache=True, nogil=True)(function)
        except RuntimeError:  # numba has found no folder that it could cache in
            compiled = njit(signature, nogil=True)(function)
        return compiled

    return decorate


@_compile(
    "void(int32[::1], int64[::1], int64[::1], int64, int64[::1], int64[::1], int64[::1],"
    "int32[::1], int32[::1], int64[::1], int64[::1], int32[::1], boolean[::1])"
)
def fold_rows(
    position_index: Int32s,
    quantity: Int64s,
    price: Int64s,
    carried: int,
    held: Int64s,
    paid_high: Int64s,
    paid_low: Int64s,
    first: Int32s,
    last: Int32s,
    opened: Int64s,
    remaining: Int64s,
    following: Int32s,
    misfit: Bools,
) -> None:
    """Fold rows into `held`, `paid` and the pool; a position that overflows is a misfit.

    `paid` is the sum of quantity * price over the rows. Its magnitude stays below 2**126, so that
    the next product, at most 2**126, cannot wrap 128 bits before it is seen.
    """
    bound = 1 << 62
    for row in range(position_index.shape[0]):
        p = position_index[row]
        if misfit[p]:
            continue
        units = quantity[row]
        after, overflow = add_checked(held[p], units)
        high, low = add_product(paid_high[p], paid_low[p], units, price[row])
        if overflow or high >= bound or high < -bound:
            misfit[p] = True
            continue
        before = held[p]
        held[p] = after
        paid_high[p] = high
        paid_low[p] = low
        slot = first[p]
        if (before > 0 > units) or (before < 0 < units):
            while slot >= 0 and units != 0:
                left = remaining[slot] + units
                if left == 0 or (left > 0) == (units > 0):
                    remaining[slot] = 0
                    slot = following[slot]
                    units = left
                else:
                    remaining[slot] = left
                    units = 0
            first[p] = slot
        if units != 0:
            new = carried + row
            opened[new] = units
            remaining[new] = units
            following[new] = -1
            if slot < 0:
                first[p] = new
            else:
                following[last[p]] = new
            last[p] = new


@_compile("void(int32[::1], int64[::1], int64[::1], int64[::1], int64[::1], boolean[::1])")
def value_lots(
    lot_position: Int32s,
    lot_remaining: Int64s,
    lot_price: Int64s,
    cost_high: Int64s,
    cost_low: Int64s,
    misfit: Bools,
) -> None:
    """Add remaining * price of each lot to its position's cost, bounded like `paid`."""
    bound = 1 << 62
    for lot in range(lot_position.shape[0]):
        p = lot_position[lot]
        high, low = add_product(cost_high[p], cost_low[p], lot_remaining[lot], lot_price[lot])
        if high >= bound or high < -bound:
            misfit[p] = True
            continue
        cost_high[p] = high
        cost_low[p] = low


@_compile("void(int32[::1], int32[::1], int32[::1], int32[::1])")
def list_lots(first: Int32s, following: Int32s, lot_position: Int32s, lot_slot: Int32s) -> None:
    """Write position and slot of the open lots, by position and oldest first."""
    count = 0
    for p in range(first.shape[0]):
        slot = first[p]
        while slot >= 0:
            lot_position[count] = p
            lot_slot[count] = slot
            count += 1
            slot = following[slot]
