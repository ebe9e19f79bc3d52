"""What an instrument costs at a time."""

from decimal import Decimal

from domain.events.parts import Timed
from domain.events.words import PriceKind
from domain.times import Day


class PriceRecorded(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A price of an instrument; `currency` is a main currency, `unit` what the price counts.

    The same instrument, time, kind and source with another price is a revision.
    """

    price: Decimal
    currency: str
    unit: Decimal = Decimal(1)
    kind: PriceKind = "close"
    price_date: Day | None = None
    source: str = ""
