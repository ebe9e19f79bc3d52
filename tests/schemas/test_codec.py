"""Events to bytes and back: exact, strict, and with one kind of error."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InvalidValue
from domain.events import CommandRefused, DealRecorded, Event, PriceRecorded
from schemas.codec import (
    CURRENT_VERSIONS,
    STRUCTS,
    Undecodable,
    decode,
    encode,
    encode_event,
    envelope,
    event_of,
    event_type,
    record_hash,
)
from schemas.envelope import Envelope, Record, Recorded
from tests.schemas.chains import make_envelope
from tests.schemas.samples import SAMPLES, sample_value


def price(number: Decimal, **fields: Any) -> PriceRecorded:
    return PriceRecorded(price=number, currency="USD", **fields)


def written(event: Event) -> Event:
    return event_of(make_envelope(event, 1, 0, {"key": "AAPL"}))


def with_data(data: bytes, **fields: Any) -> Envelope:
    made = make_envelope(price(Decimal(1)), 1, 0, {"key": "AAPL", "data": msgspec.Raw(data)})
    return msgspec.structs.replace(made, **fields)


def reason_of(data: bytes, **fields: Any) -> str:
    with pytest.raises(Undecodable) as refused:
        event_of(with_data(data, **fields))
    return refused.value.reason


@pytest.mark.parametrize("name", SAMPLES)
def test_an_event_of_each_type_is_read_as_it_was_written(name: str) -> None:
    value = sample_value(name)
    recorded = decode(Record("events", 3, 7, "A1", value))
    assert recorded == Recorded(
        "events", 3, 7, record_hash(value), envelope(value), SAMPLES[name][1]
    )
    assert encode(recorded.envelope) == value
    assert encode_event(recorded.event) == recorded.envelope.data


def test_every_type_has_a_version_and_a_struct() -> None:
    assert {(name, CURRENT_VERSIONS[name]) for name in CURRENT_VERSIONS} == set(STRUCTS)
    assert all(event_type(struct) == name for (name, _), struct in STRUCTS.items())
    assert event_type(price(Decimal(1))) == event_type(PriceRecorded) == "PriceRecorded"


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18) | st.integers().map(Decimal))
def test_a_decimal_keeps_value_and_scale(number: Decimal) -> None:
    event = written(price(number))
    assert isinstance(event, PriceRecorded)
    assert event.price.as_tuple() == number.as_tuple()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0.00", "0.00"),
        ("-0", "-0"),
        ("-0.0", "-0.0"),
        ("0E-8", "0.00000000"),
        ("1E-18", "0.000000000000000001"),
        ("1E+2", "100"),
        ("123456789012345678901234567890.12345678", "123456789012345678901234567890.12345678"),
    ],
)
def test_decimals_are_written_in_plain_notation(number: str, text: str) -> None:
    data = encode_event(price(Decimal(number)))
    assert msgspec.json.decode(data)["price"] == text
    again = written(price(Decimal(number)))
    assert isinstance(again, PriceRecorded)
    assert again.price.as_tuple() == Decimal(text).as_tuple()


@pytest.mark.parametrize("number", ["NaN", "-NaN123", "sNaN", "Infinity", "-Infinity", "1E+999999"])
def test_a_number_without_an_end_is_neither_written_nor_read(number: str) -> None:
    with pytest.raises(InvalidValue, match="price"):
        encode_event(price(Decimal(number)))
    assert "price" in reason_of(b'{"price":"%s","currency":"USD"}' % number.encode())


@given(st.text(st.sampled_from("ENaIinfty0123456789+-.")))
def test_a_text_that_looks_like_a_number_stays_as_it_is(text: str) -> None:
    event = price(Decimal("1E-7"), source=text)
    assert written(event) == event


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{", "truncated"),
        (b'{"currency":"USD"}', "missing required field `price`"),
        (b'{"price":null,"currency":"USD"}', "`$.price`"),
        (b'{"price":1.5,"currency":"USD"}', "Expected `str`, got `float` - at `$.price`"),
        (b'{"price":1,"currency":"USD"}', "Expected `str`, got `int` - at `$.price`"),
        (b'{"price":"1_0","currency":"USD"}', "'1_0' is not written as the ledger writes it"),
        (b'{"price":"01","currency":"USD"}', "`$.price`"),
        (b'{"price":"+1","currency":"USD"}', "`$.price`"),
        (b'{"price":"1\\n","currency":"USD"}', "`$.price`"),
        (b'{"price":"1e1","currency":"USD"}', "`$.price`"),
        (b'{"price":"one","currency":"USD"}', "`$.price`"),
        (b'{"price":"1","currency":"USD","zz":1}', "unknown field `zz`"),
        (b'{"price":"1","currency":"USD","price":"2"}', "'price' stands more than once"),
        (b'{"price":"1","currency":"USD","kind":"open"}', "Invalid enum value 'open'"),
        (b'{"price":"1","currency":"USD","sequence":1.0}', "`$.sequence`"),
        (b'{"price":"1","currency":"USD","sequence":%s}' % (b"9" * 5000), "`$.sequence`"),
        (b'{"price":"1","currency":"\xff"}', "utf-8"),
        (b'{"price":"1","currency":"\\ud800"}', "data of PriceRecorded version 1"),
        (b'{"price":"1","currency":"USD","zz":%s}' % (b"[" * 99_999 + b"]" * 99_999), "recursion"),
    ],
)
def test_what_cannot_be_read_exactly_is_undecodable(data: bytes, said: str) -> None:
    assert said in reason_of(data)


def test_an_unknown_field_deep_inside_is_named_with_its_place() -> None:
    deal = SAMPLES["DealRecorded"][1]
    data = bytes(encode_event(deal)).replace(b'{"kind":"comm', b'{"vat":"1","kind":"comm')
    said = reason_of(data, type="DealRecorded")
    assert "unknown field `vat` - at `$.fees[0]`" in said


def test_an_unknown_type_and_a_newer_version_are_named() -> None:
    assert reason_of(b"{}", type="DealUndone") == (
        "type: 'DealUndone' is not an event type known here"
    )
    assert (
        reason_of(b"{}", version=2) == "version: PriceRecorded version 2: newer than 1, known here"
    )
    assert reason_of(b"{}", version=0) == "version: PriceRecorded version 0: no upcaster from it"


@pytest.mark.parametrize(
    "data",
    [
        b'{ "price": "1.50", "currency": "USD" }',
        b'{"currency":"USD","price":"1.50"}',
        b'{"price":"1.50","currency":"USD","kind":"close","sequence":0,"price_date":null}',
        b'{"price":"1.50","currency":"\\u0055SD"}',
    ],
)
def test_another_way_to_say_the_same_is_read(data: bytes) -> None:
    assert event_of(with_data(data)) == price(Decimal("1.50"))


def test_a_default_told_by_another_object_is_read() -> None:
    told = price(Decimal(1), kind=b"close".decode())
    assert b"close" in bytes(encode_event(told))
    assert written(told) == told


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"seq":', b'"zz":1,"seq":', "unknown field `zz`"),
        (b'"seq":', b'"seq":1,"seq":', "'seq' stands more than once"),
        (b'"seq":', b'"seq":"1","seqs":', "`$.seq`"),
        (b'"id":', b'"ids":', "missing required field `id`"),
        (b"}}", b"}", "truncated"),
        (b'{"id"', b'\xef\xbb\xbf{"id"', "malformed"),
    ],
)
def test_an_envelope_is_read_as_strictly(old: bytes, new: bytes, said: str) -> None:
    value = sample_value("PortfolioDefined").replace(old, new, 1)
    with pytest.raises(Undecodable, match="envelope: ") as refused:
        envelope(value)
    assert said in refused.value.reason


@given(st.binary(max_size=64), st.data())
def test_any_bytes_are_decoded_or_undecodable(noise: bytes, draw: st.DataObject) -> None:
    value = sample_value(draw.draw(st.sampled_from(sorted(SAMPLES))))
    start = draw.draw(st.integers(0, len(value)))
    end = draw.draw(st.integers(start, min(len(value), start + 40)))
    changed = value[:start] + noise + value[end:]
    try:
        recorded = decode(Record("events", 0, 0, "A1", changed))
    except Undecodable:
        return
    # Whatever is read says all that stands there.
    kept = msgspec.json.decode(encode(recorded.envelope))
    told = msgspec.json.decode(changed)
    made = {name for name in ("version", "seq", "term", "prev_hash") if name not in told}
    assert {name: told[name] for name in kept if name not in made} == {
        name: value for name, value in kept.items() if name not in made
    }


def test_what_was_asked_may_be_any_json() -> None:
    asked = {"n": 1.5, "deep": [{"x": None}], "text": "NaN", "exact": Decimal("1E-9")}
    event = CommandRefused(reason="r", command_type="X", asked=asked)
    again = event_of(make_envelope(event, 1, 0, {"key": "k"}))
    assert isinstance(again, CommandRefused)
    assert again.asked == asked | {"exact": "0.000000001"}


def test_a_nested_number_that_is_not_finite_is_named_with_its_place() -> None:
    deal = SAMPLES["DealRecorded"][1]
    assert isinstance(deal, DealRecorded)
    fee = msgspec.structs.replace(deal.fees[0], amount=Decimal("NaN"))
    with pytest.raises(InvalidValue, match=r"fees\[0\]\.amount"):
        encode_event(msgspec.structs.replace(deal, fees=(fee,)))
