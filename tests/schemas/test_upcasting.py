"""Older versions are read through a chain of pure functions, given here for made-up versions."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from domain.events import AccountClosed, PriceRecorded
from schemas.codec import Undecodable, event_of
from schemas.upcasting import NotUpcast, Upcasters, upcast
from tests.schemas.chains import make_envelope


def split_quote(data: dict[str, Any]) -> dict[str, Any]:
    """Version 0 of the example told price and currency as one text."""
    number, currency = data["quote"].split(" ")
    kept = {name: value for name, value in data.items() if name != "quote"}
    return kept | {"price": number, "currency": currency}


TABLE: Upcasters = {("PriceRecorded", 0): split_quote}


def read(data: bytes, version: int = 0, table: Upcasters = TABLE) -> object:
    current = PriceRecorded(price=Decimal(1), currency="USD")
    fields = {"key": "AAPL", "version": version, "data": msgspec.Raw(data)}
    return event_of(make_envelope(current, 1, 0, fields), table)


def test_an_old_version_is_read_as_the_current_one() -> None:
    event = read(b'{"quote":"185.640 USD","kind":"mid","source":"x"}')
    assert event == PriceRecorded(price=Decimal("185.640"), currency="USD", kind="mid", source="x")
    assert str(event.price) == "185.640"


def test_the_current_version_is_not_upcast() -> None:
    assert read(b'{"price":"1","currency":"USD"}', version=1) == PriceRecorded(
        price=Decimal(1), currency="USD"
    )


def test_versions_are_climbed_one_at_a_time() -> None:
    table: Upcasters = {
        ("X", 1): lambda data: data | {"path": [*data["path"], 1]},
        ("X", 2): lambda data: data | {"path": [*data["path"], 2]},
    }
    assert upcast("X", 1, {"path": []}, current=3, upcasters=table) == {"path": [1, 2]}
    assert upcast("X", 2, {"path": []}, current=3, upcasters=table) == {"path": [2]}
    assert upcast("X", 3, {"path": []}, current=3, upcasters=table) == {"path": []}


def test_a_gap_in_the_chain_and_a_newer_version_are_named() -> None:
    table: Upcasters = {("X", 1): dict}
    with pytest.raises(NotUpcast, match="X version 2: no upcaster"):
        upcast("X", 1, {}, current=3, upcasters=table)
    with pytest.raises(NotUpcast, match="X version 4: newer than 3"):
        upcast("X", 4, {}, current=3, upcasters=table)
    with pytest.raises(Undecodable, match="PriceRecorded version 0: no upcaster"):
        read(b'{"quote":"1 USD"}', table={})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"quote":"1 USD","zz":1}', "unknown field `zz`"),
        (b'{"quote":"1 USD","quote":"2 USD"}', "'quote' stands more than once"),
        (b'{"quote":"1.0.0 USD"}', "Invalid decimal string"),
        (b'{"quote":', "data of PriceRecorded version 0"),
        (b'{"cost":"1 USD"}', "its upcaster fails: KeyError('quote')"),
        (b'["quote"]', "its upcaster fails: TypeError"),
    ],
)
def test_an_old_version_is_read_as_strictly(data: bytes, said: str) -> None:
    with pytest.raises(Undecodable) as refused:
        read(data)
    assert said in refused.value.reason


def test_a_type_without_old_versions_is_untouched_by_the_table() -> None:
    event = AccountClosed(reason="x")
    assert event_of(make_envelope(event, 1, 0, {"account": "A1"}), TABLE) == event
