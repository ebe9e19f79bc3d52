"""What is recognised without decoding is what the decoder takes, to the last character."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.events import CashLeg, DealRecorded, Fee, LotPick, Terms
from domain.money import to_plain
from domain.times import Day, Instant, to_ns
from schemas import codec
from schemas.envelope import Record
from schemas.scanning import Scanned, Scanner
from tests.schemas.chains import make_envelope

DEAL = DealRecorded(
    time_precision="second",
    deal_id="D1",
    instrument="I",
    side="buy",
    quantity=Decimal("10.50"),
    currency="USD",
    price=Decimal("-0.000001"),
    fees=(Fee(kind="commission", amount=Decimal("1.00"), currency="USD"),),
    ids={"exec_id": "1", "trade_id": "2"},
    trade_date=Day("2024-02-29"),
    tags=("a", "b"),
    terms=Terms(multiplier=Decimal(100)),
    cost=Decimal("12.34"),
    legs=(CashLeg(currency="USD", amount=Decimal("-13.34")),),
    capitalise_fees=True,
)
PATHS = (
    *("account", "seq", "term", "event_time", "recorded_time", "flags", "prev_hash"),
    *("data.deal_id", "data.quantity", "data.price", "data.cost", "data.ids", "data.tags"),
    *("data.side", "data.fees.0.amount", "data.fees.0.kind", "data.legs.0.amount"),
    *("data.terms.kind", "data.terms.multiplier", "data.trade_date", "data.capitalise_fees"),
)
SCANNER = Scanner("DealRecorded", PATHS, without=("lots",), most_parts=2)
TEXT = codec.encode(make_envelope(DEAL, 7, 0, {"account": "A1", "flags": ("assumed",)})).decode()
PIECES = st.sampled_from(
    (
        *('"', ",", ":", "{", "}", "[", "]", "\\", " ", "0", "1", "-", "+", ".", "e", "E1"),
        *("null", "true", "false", "é", "\x7f", '"x":1,', ',"x":"1"', "29", "31", "99", "T", "Z"),
        *('"seq":8,', '"account":"A2",', ',"exec_id":"3"', '"lots":[]', '"quantity":"1",', '""'),
    )
)


def scan(value: bytes) -> Scanned:
    found = SCANNER.scan([value])
    assert found is not None
    return found


def at_path(whole: Any, path: str) -> Any:
    for name in path.split("."):
        if name.isdecimal():
            whole = whole[int(name)] if int(name) < len(whole) else None
        elif whole is not None:
            whole = getattr(whole, name)
    return whole


def check(value: bytes) -> bool:
    """Tell whether a value is recognised; if so, it must decode to the same."""
    found = scan(value)
    if not found.recognised[0]:
        return False
    recorded = codec.decode(Record("events", 0, 1, "A1", value))
    for path in PATHS:
        own, _, name = path.partition("data.")
        told = at_path(recorded.envelope, own) if own else at_path(recorded.event, name)
        text, count = found.texts(path)[0], found.counts(path)[0]
        match told:
            case bool() | int():
                assert count == told, path
            case Decimal() if text:
                assert text == to_plain(told), path
                assert Decimal(count).scaleb(-found.decimals(path)[0]) == told, path
            case tuple() | dict() if text:
                assert msgspec.json.decode(text, type=type(told)) == told, path
            case str() if text:
                assert text == told, path
                assert "time" not in path or count == to_ns(Instant(told)), path
            case _:
                # What is absent has the default.
                assert not text, path
                assert told in (None, (), {}, "equity", "0" * 64, Decimal(1)), path
    return True


def test_what_the_ledger_writes_is_recognised() -> None:
    assert check(TEXT.encode())
    plain = msgspec.structs.replace(DEAL, fees=(), legs=(), ids={}, tags=(), price=None)
    assert check(codec.encode(make_envelope(plain, 7, 0, {"account": "A1"})))


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(DEAL, lots=(LotPick(lot="L", quantity=Decimal(1)),)),
        msgspec.structs.replace(DEAL, deal_id='D"1'),
        msgspec.structs.replace(DEAL, deal_id="Dé1"),
        msgspec.structs.replace(DEAL, fees=DEAL.fees * 3),
        msgspec.structs.replace(DEAL, quantity=Decimal(1234567890123456789)),
    ],
)
def test_what_has_another_form_is_left_to_the_decoder(other: DealRecorded) -> None:
    value = codec.encode(make_envelope(other, 7, 0, {"account": "A1"}))
    assert not check(value)
    assert codec.decode(Record("events", 0, 1, "A1", value)).event == other


@given(st.integers(0, len(TEXT)), st.integers(0, 12), PIECES | st.just(""))
@example(TEXT.index("02-29"), 5, "02-30")
@example(TEXT.index('"exec_id"'), 0, '"trade_id":"5",')
@example(TEXT.index("10.50"), 0, "0")
@example(TEXT.index("10.50"), 5, "1050.")
def test_a_changed_record_is_not_recognised_or_decodes_to_the_same(
    place: int, gone: int, put: str
) -> None:
    check((TEXT[:place] + put + TEXT[place + gone :]).encode())


def test_records_are_found_among_others() -> None:
    values = [b"{}", TEXT.encode(), b"", TEXT.encode()[:-1], TEXT.encode()]
    found = SCANNER.scan(values)
    assert found is not None
    assert found.recognised.tolist() == [False, True, False, False, True]
    assert found.texts("data.deal_id") == ["", "D1", "", "D1", "D1"]
