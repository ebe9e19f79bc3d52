"""What instruments and portfolios are, and corporate actions on them."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from domain.events.parts import Event
from domain.events.words import CorporateActionKind, InstrumentKind
from domain.times import Day


class InstrumentFields(Event, frozen=True, kw_only=True, omit_defaults=True):
    """What defines an instrument. `price_unit` is 1, 0.01 (percent, or a hundredth) or as told."""

    kind: InstrumentKind = "equity"
    currency: str = "USD"
    from_date: Day | None = None
    symbol: str | None = None
    mic: str | None = None
    isin: str | None = None
    figi: str | None = None
    conid: str | None = None
    multiplier: Decimal = Decimal(1)
    price_unit: Decimal = Decimal(1)
    expiry: Day | None = None
    strike: Decimal | None = None
    right: Literal["call", "put"] | None = None
    underlying: str | None = None
    time_zone: str | None = None
    sector: str | None = None
    country: str | None = None


class InstrumentDefined(InstrumentFields, frozen=True, kw_only=True, omit_defaults=True):
    """An instrument exists. Its id is permanent and opaque."""


class InstrumentChanged(InstrumentFields, frozen=True, kw_only=True, omit_defaults=True):
    """An instrument's definition from a date on, told anew as a whole."""


class InstrumentIdentified(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An instrument is known under an identifier between two dates."""

    scheme: str
    value: str
    from_date: Day | None = None
    to_date: Day | None = None


class PortfolioDefined(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A portfolio has this parent from a date on."""

    parent: str | None = None
    from_date: Day | None = None


class CorporateActionOption(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one option of an action gives for each unit held."""

    option: str = "default"
    ratio_new: Decimal | None = None
    ratio_old: Decimal | None = None
    amount: Decimal | None = None
    currency: str | None = None
    new_instrument: str | None = None
    cost_fraction: Decimal | None = None


class CorporateActionFields(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An action on an instrument: its dates and its options."""

    action_id: str
    kind: CorporateActionKind
    ex_date: Day
    record_date: Day | None = None
    pay_date: Day | None = None
    options: tuple[CorporateActionOption, ...] = ()


class CorporateActionAnnounced(
    CorporateActionFields, frozen=True, kw_only=True, omit_defaults=True
):
    """A corporate action was announced."""


class CorporateActionCorrected(
    CorporateActionFields, frozen=True, kw_only=True, omit_defaults=True
):
    """A corporate action, named by `ref_action_id`, is told anew as a whole."""

    ref_action_id: str


class CorporateActionCancelled(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A corporate action will not happen."""

    action_id: str
    ref_action_id: str
