"""Plain deals out of records that were read in bulk: recognised, not decoded.

What is recognised is exactly what the decoder would take, so that folds make the same rows of it;
the rest is left to the decoder. Most texts of a row are those of the record as they stand.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from hashlib import sha256
from itertools import repeat
from operator import mul
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from domain.deals import NO_EFFECT
from domain.decisions import Stamped
from projections.cash.tables import CASH_LEGS
from projections.plain import PlainDeal
from projections.positions.facts import PositionKey
from projections.positions.tables import DEALS
from schemas import codec
from schemas.envelope import Record
from schemas.scanning import Scanned, Scanner
from streams.lines import Listed, Members, Number, Offset, Piece, Template, Text

Bools = NDArray[np.bool_]
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
        """Return one of them decoded, as a fold takes it; `number` counts from 0."""
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


class _Positions(dict[tuple[str, str, str], PositionKey]):
    """Keys of positions, each made once."""

    def __missing__(self, key: tuple[str, str, str]) -> PositionKey:
        made = self[key] = PositionKey(*key)
        return made


def _are_plain(records: Sequence[Record], scanned: Scanned, accounts: Sequence[str]) -> Bools:
    """Return for each record whether its deal is plain, has an effect, and is its key's."""
    is_fx = [kind == "fx" for kind in scanned.texts("data.terms.kind")]
    has_effect = list(map(_has_effect, scanned.texts("flags")))
    is_of_key = [record.key == account for record, account in zip(records, accounts, strict=True)]
    has_quantity = scanned.numbers[scanned.slots["data.quantity"]] != 0
    has_date = scanned.spans[scanned.slots["data.trade_date"], 0] != 0
    found: Bools = scanned.recognised & has_quantity & has_date & has_effect & is_of_key
    return found & ~np.array(is_fx, np.bool_)


def _fixed(scanned: Scanned, path: str, scale: int) -> list[int]:
    """Return a member's decimals as whole numbers at a scale."""
    powers = _POWERS[: scale + 1][::-1]
    factors = map(powers.__getitem__, scanned.decimals(path))
    return list(map(mul, scanned.counts(path), factors))


def _signed(scanned: Scanned, numbers: list[int]) -> list[int]:
    """Return numbers as a deal moves its position: minus those of sales."""
    is_buy = scanned.data[scanned.spans[scanned.slots["data.side"], 0]] == _BUY
    return [
        number if buys else -number for buys, number in zip(is_buy.tolist(), numbers, strict=True)
    ]


def _fees(scanned: Scanned, currencies: list[str]) -> list[int]:
    """Return the fees that are in the currency of cost."""
    told = zip(_fixed(scanned, _FEE[1], 36), scanned.texts(_FEE[2]), currencies, strict=True)
    return [fee36 if currency == own else 0 for fee36, currency, own in told]


def _given(scanned: Scanned, path: str) -> list[bool]:
    given: list[bool] = (scanned.spans[scanned.slots[path], 0] > 0).tolist()
    return given


def _deals(records: Sequence[Record], scanned: Scanned) -> Iterator[Plain | None]:
    """Yield the deals; made by columns, as a loop over the records takes twice as long."""
    accounts, currencies = scanned.texts("account"), scanned.texts("data.currency")
    wanted = _are_plain(records, scanned, accounts)
    offsets = [record.offset for record in records]
    seqs = scanned.counts("seq")
    keys = zip(accounts, scanned.texts("data.instrument"), currencies, strict=True)
    terms = ("data.terms.multiplier", "data.terms.price_unit")
    lines = [
        _template(name).lines(scanned, np.array(offsets, np.int64), wanted)
        for name in (DEALS.name, CASH_LEGS.name)
    ]
    deals = map(
        PlainDeal,
        accounts,
        seqs,
        offsets,
        zip(scanned.texts("event_time"), scanned.counts("data.sequence"), seqs, strict=True),
        map(_Positions().__getitem__, keys),
        scanned.texts("data.deal_id"),
        _given(scanned, "data.order_id"),
        _signed(scanned, _fixed(scanned, "data.quantity", 18)),
        _signed(scanned, _fixed(scanned, "data.cost", 36)),
        _fees(scanned, currencies),
        map(bool, scanned.counts("data.capitalise_fees")),
        map(_terms, *map(scanned.texts, terms)),
        *map(scanned.texts, _LEG),
        *lines,
        repeat(_Records(records)),
        range(len(records)),
    )
    digests = [sha256(record.value).hexdigest() for record in records]
    told = zip(deals, scanned.counts("term"), scanned.texts("prev_hash"), digests, strict=True)
    return (one if is_plain else None for is_plain, one in zip(wanted.tolist(), told, strict=True))
