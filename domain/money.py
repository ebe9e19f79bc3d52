"""Exact decimals at the edges, scaled integers inside the folds, and the only place that rounds."""

from collections.abc import Iterable
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    localcontext,
)
from typing import Final

from domain.errors import InvalidValue

MAX_DIGITS: Final = 38
"""Digits that one number may have in all: what Arrow's decimal128 and every SQL store can hold."""
MAX_SCALE: Final = 18
"""Digits after the point of a number that is told."""
MAX_COST_DIGITS: Final = 200
"""Digits of a cost: four factors of 38 make it, and costs are added up, but not without end."""
QUANTITY_SCALE: Final = 18
COST_SCALE: Final = 36
DISPLAY_SCALE: Final = 10

EXACT: Final = Context(
    prec=400,
    rounding=ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    traps=[InvalidOperation, DivisionByZero, Overflow, Inexact],
)
"""Arithmetic that fails rather than round: Python's default context rounds at 28 digits."""

ZERO: Final = Decimal(0)
_ONE_AT: Final = {scale: 10**scale for scale in range(COST_SCALE + 1)}
_scaled: Final = EXACT.scaleb
_to_integral: Final = EXACT.to_integral_exact
_normalized: Final = EXACT.normalize
_EXPECTED: Final = (
    f"a plain decimal number of at most {MAX_DIGITS} digits, {MAX_SCALE} of them after the point"
)


def parse_decimal(text: str, field: str) -> Decimal:
    """Return the number that a text holds, with the scale it was written with.

    Raises InvalidValue for what is not finite, or has more than 38 digits or 18 decimals.
    """
    told = text.strip()
    if "_" in told or not told.isascii():
        raise InvalidValue(field, text, _EXPECTED)
    try:
        number = EXACT.create_decimal(told)
    except (InvalidOperation, Inexact):
        raise InvalidValue(field, text, _EXPECTED) from None
    return check_decimal(number, field)


def check_decimal(number: Decimal, field: str) -> Decimal:
    """Return the number when the ledger can hold it exactly, written without an exponent.

    Raises InvalidValue for what is not finite, or has more than 38 digits or 18 decimals.
    """
    if number.is_finite() and len(text := str(number)) <= MAX_SCALE and "E" not in text:
        return number  # as most are, and seen at once
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or exponent < -MAX_SCALE:
        raise InvalidValue(field, number, _EXPECTED)
    if len(digits) + max(exponent, 0) > MAX_DIGITS:
        raise InvalidValue(field, number, _EXPECTED)
    if exponent > 0:
        return number.quantize(Decimal(1), context=EXACT)
    return number


def check_cost(cost: Decimal, field: str) -> Decimal:
    """Return a cost when the folds can hold it exactly, written without an exponent.

    What the ledger made of told numbers has more digits than one of them. Raises InvalidValue for
    what is not finite, or has more than 36 decimals or 200 digits.
    """
    _, digits, exponent = cost.as_tuple()
    if (
        not isinstance(exponent, int)
        or exponent < -COST_SCALE
        or len(digits) + max(exponent, 0) > MAX_COST_DIGITS
    ):
        expected = f"a plain decimal number of at most {MAX_COST_DIGITS} digits"
        raise InvalidValue(field, cost, f"{expected}, {COST_SCALE} of them after the point")
    return cost.quantize(Decimal(1), context=EXACT) if exponent > 0 else cost


def add(values: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    total = ZERO
    for value in values:
        total = EXACT.add(total, value)
    return total


def multiply(product: Decimal, *factors: Decimal) -> Decimal:
    """Return the exact product."""
    for factor in factors:
        product = EXACT.multiply(product, factor)
    return product


def shortened(product: Decimal, *factors: Decimal) -> Decimal:
    """Return a product without trailing zeros beyond the greatest scale that a factor has.

    The scale of a product is the sum of its factors', and so of zeros that nobody has told.
    """
    scale = exponent_of(product)
    least = min(map(exponent_of, factors))
    if scale >= least:
        return product
    shorter = _normalized(product)
    if exponent_of(shorter) <= least:
        return shorter
    return EXACT.quantize(product, Decimal(1).scaleb(least))


def negated(number: Decimal) -> Decimal:
    """Return the number with the other sign; zero has none."""
    return number.copy_negate() if number else number.copy_abs()


def exponent_of(number: Decimal) -> int:
    """Return the exponent of a finite number: -2 for 1.50."""
    text = str(number)
    if "E" in text:
        _, _, exponent = number.as_tuple()
        assert isinstance(exponent, int)
        return exponent
    # Taking the digits apart, as as_tuple does, takes many times as long as writing them.
    point = text.find(".")
    return point - len(text) + 1 if point >= 0 else 0


def normalized(number: Decimal) -> Decimal:
    """Return the number by value alone: 1.50 and 1.5 become the same."""
    if not number:
        return ZERO
    return EXACT.normalize(number)


def to_plain(number: Decimal) -> str:
    """Return the number in plain notation with the scale that it has; never an exponent."""
    return format(number, "f")


def to_scaled(number: Decimal, scale: int) -> int:
    """Return the number as an integer count of 10**-scale; raises Inexact when it does not fit."""
    return int(_to_integral(_scaled(number, scale)))


def from_scaled(count: int, scale: int) -> Decimal:
    """Return an integer count of 10**-scale as a decimal without trailing zeros."""
    if not count:
        return ZERO
    whole, part = divmod(count, _ONE_AT[scale])
    if not part:
        return Decimal(whole)
    return _normalized(_scaled(Decimal(count), -scale))


def divide_half_even(numerator: int, denominator: int) -> int:
    """Return the quotient rounded half to even: the one rounding that the ledger does."""
    quotient, remainder = divmod(numerator, denominator)
    twice, size = 2 * abs(remainder), abs(denominator)
    if twice > size or (twice == size and quotient % 2):
        quotient += 1
    return quotient


def average(total: Decimal, count: Decimal) -> Decimal:
    """Return total / count for display: ten decimals, half to even."""
    with localcontext(EXACT) as context:
        context.traps[Inexact] = False
        quotient = (total / count).quantize(
            Decimal(1).scaleb(-DISPLAY_SCALE), rounding=ROUND_HALF_EVEN
        )
        return quotient or abs(quotient)  # a zero has no sign in a database
