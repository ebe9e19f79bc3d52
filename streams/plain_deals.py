"""Plain deals out of records that were read in bulk: recognised, not decoded.

What is recognised is exactly what the decoder would take, so that folds make the same rows of it;
the rest is left to the decoder. Most texts of a row are those of the record as they stand.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from hashlib import sha256
from itertools import repeat
from typing import Any, Final

import msgspec
import numpy as np

from domain.deals import NO_EFFECT
from domain.decisions import Stamped
from domain.times import Instant
from projections.cash.tables import CASH_LEGS
from projections.plain import PlainDeal
from projections.positions.facts import PositionKey
from projections.positions.tables import DEALS
from schemas import codec
from schemas.envelope import Record
from schemas.scanning import Scanned, Scanner
from streams.lines import Listed, Members, Number, Offset, Piece, Template, Text

Plain = tuple[PlainDeal, int, str, str]
"""A plain deal, and of its envelope what is still to be judged: term, prev_hash, its hash."""

_UNPLAIN: Final = (
    "lots",
    "told",
    "accrued_interest",
    "settlement_currency",
    "settlement_amount",
    "settlement_rate",
)
"""Members of a deal that folds look into, or that its row tells in a form of their own."""
_TEXTS: Final = (
    "effect",
    "short",
    "capacity",
    "trader",
    "strategy",
    "broker",
    "venue",
    "counterparty",
    "parent_id",
    "booked_date",
)
_AS_THEY_ARE: Final = ("ids", "identifiers", "tags")
_FEE: Final = ("data.fees.0.kind", "data.fees.0.amount", "data.fees.0.currency")
_DETAILS: Final = Members(
    (
        *((name, f"data.{name}", ('"', f"data.{name}", '"')) for name in _TEXTS),
        *((name, f"data.{name}", ("", f"data.{name}")) for name in _AS_THEY_ARE),
        ("fees", _FEE[0], ('[["', _FEE[0], '", "', _FEE[1], '", "', _FEE[2], '"]]')),
    )
)
_LEG: Final = ("data.legs.0.currency", "data.legs.0.amount", "data.legs.0.settlement_date")
_DEAL_COLUMNS: Final[dict[str, Piece]] = {
    "account": Text("account"),
    "deal_id": Text("data.deal_id"),
    "order_id": Text("data.order_id"),
    "instrument": Text("data.instrument"),
    "currency": Text("data.currency"),
    "side": Text("data.side"),
    "quantity": Text("data.quantity"),
    "price": Text("data.price"),
    "cost": Text("data.cost"),
    "net": Text(_LEG[1], "0", (_LEG[0], "data.currency")),
    "fees": Text(_FEE[1], "0", (_FEE[2], "data.currency")),
    "capitalise_fees": Number("data.capitalise_fees"),
    "kind": Text("data.terms.kind", "equity"),
    "multiplier": Text("data.terms.multiplier", "1"),
    "price_unit": Text("data.terms.price_unit", "1"),
    "status": "effective",
    "event_time_ns": Number("event_time"),
    "sequence": Number("data.sequence"),
    "seq": Number("seq"),
    "trade_date": Text("data.trade_date"),
    "settlement_date": Text("data.settlement_date"),
    "recorded_time_ns": Number("recorded_time"),
    "flags": Listed("flags"),
    "details": _DETAILS,
    "changed_offset": Offset(),
}
_LEG_COLUMNS: Final[dict[str, Piece]] = {
    "account": Text("account"),
    "source": "deal",
    "source_id": Text("data.deal_id"),
    "leg": "1",
    "currency": Text(_LEG[0]),
    "amount": Text(_LEG[1]),
    "business_date": Text("data.trade_date"),
    "settlement_date": Text(_LEG[2]),
    "event_time_ns": Number("event_time"),
    "changed_offset": Offset(),
}
_WANTED: Final = (
    *("account", "seq", "term", "event_time", "recorded_time", "flags", "prev_hash"),
    *("data.deal_id", "data.instrument", "data.side", "data.quantity", "data.currency"),
    *("data.price", "data.cost", "data.sequence", "data.order_id", "data.capitalise_fees"),
    *("data.trade_date", "data.settlement_date"),
    *("data.terms.kind", "data.terms.multiplier", "data.terms.price_unit"),
    *_FEE,
    *_LEG,
    *(f"data.{name}" for name in (*_TEXTS, *_AS_THEY_ARE)),
)
_POWERS: Final = [10**power for power in range(37)]
_BUY: Final = ord("b")


@cache
def _scanner() -> Scanner:
    return Scanner("DealRecorded", _WANTED, without=_UNPLAIN, most_parts=1)


@cache
def _template(table: str) -> Template:
    columns, names = (
        (_DEAL_COLUMNS, DEALS.columns) if table == DEALS.name else (_LEG_COLUMNS, CASH_LEGS.columns)
    )
    return Template(_scanner().slots, [columns[name] for name in names])


def plain_deals(records: Sequence[Record]) -> Iterator[Plain | None]:
    """Yield for each record its plain deal, or None."""
    scanned = _scanner().scan([record.value for record in records])
    return repeat(None, len(records)) if scanned is None else _deals(records, scanned)


class _Records:
    """The records of a batch, one of which may be wanted whole."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records

    def stamped(self, number: int) -> Stamped:
        record = self._records[number]
        envelope = codec.envelope(record.value)
        return Stamped(
            event=codec.event_of(envelope),
            key=envelope.stream or "",
            seq=envelope.seq,
            offset=record.offset,
            event_time=envelope.event_time,
            recorded_time=envelope.recorded_time,
            partition=record.partition,
            content_hash=envelope.command_hash,
            flags=envelope.flags,
        )


@cache
def _has_effect(flags: str) -> bool:
    return not flags or NO_EFFECT.isdisjoint(msgspec.json.decode(flags))


@cache
def _terms(multiplier: str, price_unit: str) -> tuple[Decimal, Decimal]:
    return Decimal(multiplier or 1), Decimal(price_unit or 1)


def _is_plain(scanned: Scanned) -> Any:
    """Return for each record whether its deal is one; flags and key are still to be looked at."""
    is_fx = np.fromiter((kind == "fx" for kind in scanned.texts("data.terms.kind")), np.bool_)
    has_quantity = scanned.numbers[scanned.slots["data.quantity"]] != 0
    has_date = scanned.spans[scanned.slots["data.trade_date"], 0] != 0
    return scanned.recognised & has_quantity & has_date & ~is_fx


def _fixed(scanned: Scanned, path: str, scale: int, signs: Sequence[int]) -> list[int]:
    """Return a member's decimals as whole numbers at a scale, with these signs."""
    counts, decimals = scanned.counts(path), scanned.decimals(path)
    powers = _POWERS[: scale + 1][::-1]
    return [
        sign * count * powers[places]
        for sign, count, places in zip(signs, counts, decimals, strict=True)
    ]


def _deals(records: Sequence[Record], scanned: Scanned) -> Iterator[Plain | None]:
    """Yield the deals. A long zip: a dictionary or an object a record doubles what it costs."""
    source = _Records(records)
    positions: dict[tuple[str, str, str], PositionKey] = {}
    wanted = _is_plain(scanned)
    offsets = np.fromiter((record.offset for record in records), np.int64, len(records))
    is_buy = scanned.data[scanned.spans[scanned.slots["data.side"], 0]] == _BUY
    signs: list[int] = np.where(is_buy, 1, -1).tolist()
    fees = _fixed(scanned, _FEE[1], 36, [1] * len(records))
    columns = zip(
        wanted.tolist(),
        records,
        scanned.texts("account"),
        scanned.counts("seq"),
        scanned.counts("term"),
        scanned.texts("event_time"),
        scanned.texts("flags"),
        scanned.texts("prev_hash"),
        scanned.counts("data.sequence"),
        scanned.texts("data.deal_id"),
        scanned.texts("data.instrument"),
        scanned.texts("data.currency"),
        scanned.spans[scanned.slots["data.order_id"], 0].tolist(),
        _fixed(scanned, "data.quantity", 18, signs),
        _fixed(scanned, "data.cost", 36, signs),
        fees,
        scanned.texts(_FEE[2]),
        scanned.counts("data.capitalise_fees"),
        scanned.texts("data.terms.multiplier"),
        scanned.texts("data.terms.price_unit"),
        *(scanned.texts(path) for path in _LEG),
        _template(DEALS.name).lines(scanned, offsets, wanted),
        _template(CASH_LEGS.name).lines(scanned, offsets, wanted),
        strict=True,
    )
    for number, (
        is_plain,
        record,
        account,
        seq,
        term,
        event_time,
        flags,
        prev_hash,
        sequence,
        deal_id,
        instrument,
        currency,
        ordered,
        quantity,
        cost36,
        fee36,
        fee_currency,
        capitalises,
        multiplier,
        price_unit,
        leg_currency,
        amount,
        settlement_date,
        line,
        leg_line,
    ) in enumerate(columns):
        if not (is_plain and _has_effect(flags) and record.key == account):
            yield None
            continue
        key = (account, instrument, currency)
        position = positions.get(key)
        if position is None:
            position = positions[key] = PositionKey(*key)
        deal = PlainDeal(
            account,
            seq,
            record.offset,
            (Instant(event_time), sequence, seq),
            position,
            deal_id,
            ordered > 0,
            quantity,
            cost36,
            fee36 if fee_currency == currency else 0,
            capitalises > 0,
            _terms(multiplier, price_unit),
            leg_currency,
            amount,
            settlement_date,
            line,
            leg_line,
            source,
            number,
        )
        yield deal, term, prev_hash, sha256(record.value).hexdigest()
