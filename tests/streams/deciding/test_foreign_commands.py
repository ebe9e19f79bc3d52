"""Commands that another program wrote: what Daybook's own front would refuse is never an event."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

import pytest
from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaConsumer,
    AIOKafkaProducer,
    TopicPartition,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.commands import ReceiveTransfer, Request
from domain.events import LotTold, UnitLeg
from domain.validation import check_request
from schemas.partitioning import partition_of
from streams.deciding.front import KafkaLedger
from streams.deciding.wire import Undecidable, decode_asked, encode_request
from tests.streams.deciding.deciders import ThreadDecider, events_of
from tests.streams.kafka_homes import KafkaHome, forget, new_home
from tests.streams.requests import cash, deal, define, open_account
from tests.streams.sample_book import sample_requests

ACCOUNT: Final = "A1"
Path = tuple[str, ...]
LONG: Final = "x" * 129

# Where it stands, what stands there, and the field that the reason has to name.
JUNK: Final[list[tuple[Path, Any, str]]] = [
    (("command_id",), LONG, "command_id"),
    (("command_id",), "", "command_id"),
    (("command_id",), " c", "command_id"),
    (("command_id",), "e\u0301", "command_id"),
    (("command_id",), "a\x00b", "command_id"),
    (("command_id",), "a\u202eb", "command_id"),
    (("actor",), "a\x00b", "actor"),
    (("correlation_id",), "a\x00b", "correlation_id"),
    (("flags",), ["a\x00b"], "flags"),
    (("source",), {"digest": "\x00", "line": 1}, "source.digest"),
    (("event_time",), "2024-01-02T12:00:00Z", "event_time"),
    (("event_time",), "2024-02-30T12:00:00.000000000Z", "event_time"),
    (("event_time",), "9999-01-02T12:00:00.000000000Z", "event_time"),
    (("data", "cash_id"), LONG, "cash_id"),
    (("data", "cash_id"), "a\nb", "cash_id"),
    (("data", "currency"), "usd", "currency"),
    (("data", "amount"), "1e30", "data.amount"),
    (("data", "amount"), "1e999999999", "amount"),
    (("data", "amount"), "NaN", "amount"),
    (("data", "amount"), "0." + "0" * 18 + "1", "amount"),
    (("data", "amount"), "9" * 39, "amount"),
    (("data", "settlement_date"), "2024-13-01", "settlement_date"),
    (("data", "note_id"), LONG, "note_id"),
    (("data", "data.unheard"), 1, "data.unheard"),
    (("type",), "StealCash", "StealCash"),
]


def changed(path: Path, value: Any) -> bytes:
    """Return a good command with something else in one place."""
    told = json.loads(encode_request(cash("c", ACCOUNT, "k")))
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize(("path", "value", "field"), JUNK)
def test_what_the_front_would_refuse_is_undecidable(path: Path, value: Any, field: str) -> None:
    with pytest.raises(Undecidable) as refused:
        decode_asked(ACCOUNT.encode(), changed(path, value), partition_of(ACCOUNT, 2), 2)
    assert field in refused.value.reason
    assert len(refused.value.reason) < 1000


def test_a_key_that_is_no_id_is_undecidable() -> None:
    value = encode_request(cash("c", LONG, "k"))
    with pytest.raises(Undecidable, match="key"):
        decode_asked(LONG.encode(), value, partition_of(LONG, 2), 2)


def test_a_quantity_that_says_the_side_too_is_undecidable() -> None:
    value = encode_request(deal("c", ACCOUNT, "d", quantity="-1"))
    with pytest.raises(Undecidable, match="quantity: '-1' is not valid; expected a number above 0"):
        decode_asked(ACCOUNT.encode(), value, partition_of(ACCOUNT, 2), 2)


def test_a_cost_that_the_ledger_made_is_decided() -> None:
    cost = Decimal("0.1387007409372007481")  # 0.123456789 bought at 1.1234567891
    lot = LotTold(lot="d", quantity=Decimal("0.123456789"), cost=cost)
    leg = UnitLeg(instrument="X", quantity=lot.quantity, currency="USD", lots=(lot,))
    command = ReceiveTransfer(transfer_id="t", from_account="S", legs=(leg,))
    asked = replace(cash("c", ACCOUNT, "k"), command=command)
    told = decode_asked(ACCOUNT.encode(), encode_request(asked), partition_of(ACCOUNT, 2), 2)
    assert told == asked


TEXTS = st.one_of(
    st.text(max_size=8),
    st.text(alphabet="\x00\x1f\x7f\u0301\u200b\u202e\ud800 aé", min_size=1, max_size=4),
    st.sampled_from(["x" * 129, "NaN", "-0", "1e5", "1E+400", "9" * 50, "2024-02-30", "USD"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def junk(draw: st.DrawFn) -> bytes:
    """Return what somebody may write: a command with something else in it, or anything at all."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=60))
    told = json.loads(encode_request(draw(st.sampled_from(SAMPLES))))
    names = draw(st.lists(st.sampled_from([*told, *told["data"]]), min_size=1, max_size=2))
    for name in names:
        inner = told if name in told or not isinstance(told["data"], dict) else told["data"]
        inner[name] = draw(st.one_of(TEXTS, VALUES))
    text = json.dumps(told, ensure_ascii=draw(st.booleans()), separators=(",", ":"))
    return text.encode(errors="surrogatepass")


SAMPLES: Final = sample_requests(60)


@given(junk())
def test_what_is_decided_is_what_the_front_lets_pass(value: bytes) -> None:
    try:
        told = json.loads(value)
        key = str(told["key"])
        asked = decode_asked(key.encode(), value, partition_of(key, 4), 4)
    except (Undecidable, ValueError, TypeError, KeyError):
        return
    assert isinstance(asked, Request)
    assert check_request(asked) == asked
    assert encode_request(asked) == encode_request(check_request(asked)) == value


@pytest.fixture(scope="module")
def foreign(kafka_bootstrap: str) -> Iterator[tuple[KafkaHome, KafkaLedger, ThreadDecider]]:
    """A log of two partitions with a decider and Daybook's own front."""
    place = new_home(kafka_bootstrap)
    with contextlib.ExitStack() as stack:
        stack.callback(forget, place)
        log = place.open()
        stack.callback(log.close)
        decider = ThreadDecider(log)
        stack.callback(decider.stop)
        ledger = KafkaLedger(log)
        stack.callback(ledger.close)
        ledger.submit([define("AAPL"), open_account(ACCOUNT)])
        yield place, ledger, decider


def write(home: KafkaHome, values: Sequence[bytes]) -> None:
    """Write to the commands of the account's partition, as any program could."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=home.hosts)
        await producer.start()
        try:
            at = partition_of(ACCOUNT, home.partitions)
            for value in values:
                await producer.send(home.topic("commands"), value, ACCOUNT.encode(), partition=at)
        finally:
            await producer.stop()

    asyncio.run(send())


def letters(home: KafkaHome) -> list[str]:
    """Return the reasons of the dead letters, in their order."""

    async def read() -> list[str]:
        at = TopicPartition(home.topic("dead-letters"), 0)
        consumer = AIOKafkaConsumer(bootstrap_servers=home.hosts)
        await consumer.start()
        try:
            consumer.assign([at])
            await consumer.seek_to_beginning(at)
            end = (await consumer.end_offsets([at]))[at]
            told = []
            while await consumer.position(at) < end:
                record = await consumer.getone(at)
                told.append(dict(record.headers)["daybook-reason"].decode())
            return told
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_a_decider_buries_them_and_goes_on(
    foreign: tuple[KafkaHome, KafkaLedger, ThreadDecider],
) -> None:
    home, ledger, decider = foreign
    before = len(letters(home))
    buried = decider.counted("daybook_dead_letters_total")
    write(home, [changed(path, value) for path, value, _ in JUNK])
    (answer,) = ledger.submit([cash("after junk", ACCOUNT, "after junk")])
    assert answer.status == "accepted"
    assert decider.counted("daybook_dead_letters_total") == buried + len(JUNK)
    told = letters(home)[before:]
    assert [field for (*_, field), reason in zip(JUNK, told, strict=True) if field in reason] == [
        field for *_, field in JUNK
    ]


@settings(max_examples=5)
@given(st.lists(junk(), min_size=20, max_size=60))
def test_nothing_that_anybody_writes_stops_a_decider_or_breaks_the_log(
    foreign: tuple[KafkaHome, KafkaLedger, ThreadDecider], values: list[bytes]
) -> None:
    home, ledger, decider = foreign
    write(home, values)
    number = sum(map(len, events_of(ledger.log).values()))
    (answer,) = ledger.submit([cash(f"n{number}", ACCOUNT, f"n{number}", amount="2.50")])
    assert answer.status == "accepted"
    assert decider.error is None
    for envelopes in events_of(ledger.log).values():
        for envelope in envelopes:
            assert len(envelope.command_id or "") <= 128
