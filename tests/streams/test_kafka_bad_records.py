"""What others write into a partition: void or halting, never applied, never a crash."""

import hashlib
import json
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest

from domain.events import CashMoved, RecordParked
from domain.times import from_ns
from schemas import codec
from schemas.envelope import GENESIS_HASH, Envelope, Record, Recorded
from schemas.partitioning import partition_of
from schemas.validity import Void
from streams.kafka_log import KafkaLog
from streams.log import Log, LogHalted
from streams.reader import fresh_state, read_valid
from tests.streams.kafka_homes import KafkaHome, home
from tests.streams.owner import Owner

__all__ = ["home"]

PARTITION = partition_of("A", 2)
ELSEWHERE = next(f"S{n}" for n in range(100) if partition_of(f"S{n}", 2) != PARTITION)
_DATA = codec.encode_event(
    CashMoved(cash_id="m", kind="deposit", amount=Decimal(1), currency="USD")
)


def cash(record_id: str, **told: object) -> Envelope:
    now = from_ns(time.time_ns())
    fields = {"account": "A", "event_time": now, "recorded_time": now, "data": _DATA} | told
    return Envelope(id=record_id, type="CashMoved", **fields)  # type: ignore[arg-type]


class Follower:
    """An owner, and all that it was told."""

    def __init__(self, log: Log, name: str = "o") -> None:
        self.learnt: list[Recorded | Void] = []
        self._ids = iter(range(1_000_000))
        self.owner = Owner(
            log,
            "events",
            PARTITION,
            name,
            learn=self.learnt.append,
            clock=time.time_ns,
            new_id=lambda: f"{name}-term-{next(self._ids)}",
        )

    def seqs(self) -> list[int]:
        return [
            told.envelope.seq
            for told in self.learnt
            if isinstance(told, Recorded) and told.envelope.seq
        ]


@pytest.fixture
def log(home: KafkaHome) -> Iterator[KafkaLog]:
    opened = home.open()
    yield opened
    opened.close()


@pytest.fixture
def follower(log: KafkaLog) -> Follower:
    """The owner of A's partition in term 1, which has two events."""
    follower = Follower(log)
    assert follower.owner.take() == 1
    follower.owner.write([cash("1"), cash("2")])
    return follower


def changed(record: Record, **told: object) -> bytes:
    return json.dumps(json.loads(record.value) | told, separators=(",", ":")).encode()


def read_all(log: KafkaLog) -> tuple[list[str], list[Void]]:
    state = fresh_state(log, "events", PARTITION)
    ids, voids = [], []
    while True:
        batch = read_valid(log, "events", PARTITION, state, 3)
        if batch.is_empty:
            return ids, voids
        ids += [recorded.envelope.id for recorded in batch.records if recorded.envelope.seq]
        voids += batch.voids


VOID = {
    "a gap in seq": ({"id": "x", "seq": 9}, "seq 9"),
    "the same record again": ({}, "seq 2"),
    "a time that is none": ({"id": "x", "seq": 9, "recorded_time": "zzz"}, "seq 9"),
    "a stale term": ({"id": "x", "seq": 3, "term": 0}, "term 0"),
    "a term that nobody started": ({"id": "x", "seq": 3, "term": 7}, "term 7"),
}


@pytest.mark.parametrize("case", VOID)
def test_what_does_not_count_is_void_and_the_owner_goes_on(
    case: str, home: KafkaHome, log: KafkaLog, follower: Follower
) -> None:
    told, reason = VOID[case]
    last = log.read("events", PARTITION, 3, 1)[0]
    offset = home.produce(PARTITION, b"A", changed(last, **told))
    assert offset == 4
    follower.owner.follow()
    follower.owner.write([cash("3")])
    ids, voids = read_all(log)
    assert ids == ["1", "2", "3"]
    assert [(void.offset, void.reason[: len(reason)]) for void in voids] == [(4, reason)]
    assert follower.seqs() == [1, 2, 3]


HALTING = {
    "not JSON": (b"A", lambda last: b"\xff\x00 garbage", "decoded"),
    "an unknown type": (b"A", lambda last: changed(last, type="Surprise", seq=3), "Surprise"),
    "an unknown version": (b"A", lambda last: changed(last, version=99, seq=3), "version"),
    "a wrong hash": (b"A", lambda last: changed(last, seq=3, prev_hash="f" * 64), "chain"),
    "a key that is not its account": (b"B", lambda last: changed(last, seq=3), "key"),
    "a key that is no text": (b"\xff", lambda last: changed(last, seq=3), "key"),
    "no value": (b"A", lambda last: None, "decoded"),
    "a stream of another partition": (
        ELSEWHERE.encode(),
        lambda last: changed(last, account=ELSEWHERE, seq=1, prev_hash=GENESIS_HASH),
        "belongs in partition",
    ),
}


@pytest.mark.parametrize("case", HALTING)
def test_what_nobody_can_read_halts_everyone_until_it_is_parked(
    case: str, home: KafkaHome, log: KafkaLog, follower: Follower
) -> None:
    key, make, reason = HALTING[case]
    value = make(log.read("events", PARTITION, 3, 1)[0])
    assert home.produce(PARTITION, key, value) == 4
    with pytest.raises(LogHalted, match=reason) as halted:
        read_all(log)
    assert halted.value.offset == 4
    for _ in range(2):
        with pytest.raises(LogHalted, match=reason):
            follower.owner.follow()

    digest = hashlib.sha256(value or b"").hexdigest()
    parked = RecordParked(offset=4, digest=digest)
    now = from_ns(time.time_ns())
    told = Envelope(
        id="p",
        type="RecordParked",
        event_time=now,
        recorded_time=now,
        data=codec.encode_event(parked),
    )
    home.produce(PARTITION, None, codec.encode(told))
    follower.owner.follow()
    follower.owner.write([cash("3")])
    ids, voids = read_all(log)
    assert ids == ["1", "2", "3"]
    assert [(void.offset, void.reason) for void in voids] == [(4, "parked")]


def test_recorded_times_of_an_owner_never_run_backwards(home: KafkaHome, log: KafkaLog) -> None:
    times = iter([3_000_000_000_000_000_000, 2_000_000_000_000_000_000])
    learnt: list[Recorded | Void] = []
    owner = Owner(
        log, "events", PARTITION, "o", learn=learnt.append, clock=lambda: next(times), new_id=str
    )
    owner.take()
    owner.write([cash("1"), cash("2")])
    recorded = [told.envelope.recorded_time for told in learnt if isinstance(told, Recorded)]
    assert recorded[1:] == [from_ns(3_000_000_000_000_000_000)] * 3
