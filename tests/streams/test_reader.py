"""Reading through the validity rules: voids counted, halts kept, parked records passed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import pytest

from domain.commands import Topic
from domain.events import Event, RecordParked, TermStarted
from domain.times import Instant
from schemas import codec
from schemas.envelope import Envelope, Record, Recorded
from schemas.partitioning import partition_of
from schemas.validity import PartitionState
from streams.ledger import Ledger
from streams.log import Draft, LogHalted
from streams.postgres_log import PostgresLog
from streams.reader import ValidBatch, fresh_state, read_valid, read_valid_stream
from tests.schemas.chains import LOG_ID, Chain, key_in
from tests.schemas.scenarios import SCENARIOS
from tests.streams.requests import cash, open_account

NOW = Instant("2200-01-01T00:00:00.000000000Z")


@pytest.fixture
def place(ledger: Ledger) -> int:
    """The partition of account A1, which has three records of its own."""
    answers = ledger.submit([open_account("A1"), cash("c1", "A1", "m1"), cash("c2", "A1", "m2")])
    assert answers[2].offset == 3
    return answers[0].partition


def control(event: Event, term: int = 0) -> Draft:
    envelope = Envelope(
        id="x",
        type=codec.event_type(event),
        event_time=NOW,
        recorded_time=NOW,
        term=term,
        data=codec.encode_event(event),
    )
    return Draft(None, codec.encode(envelope))


def read_all(log: PostgresLog, state: PartitionState, limit: int = 2) -> ValidBatch:
    whole = ValidBatch([], [])
    while True:
        batch = read_valid(log, "events", state.partition, state, limit)
        if batch.is_empty:
            return whole
        assert len(batch.records) + len(batch.voids) <= limit
        whole.records.extend(batch.records)
        whole.voids.extend(batch.voids)


def types(records: list[Recorded]) -> list[str]:
    return [recorded.envelope.type for recorded in records]


def test_a_partition_is_read_to_its_head(log: PostgresLog, place: int) -> None:
    state = fresh_state(log, "events", place)
    whole = read_all(log, state)
    assert types(whole.records) == ["LogCreated", "AccountOpened", "CashMoved", "CashMoved"]
    assert whole.voids == []
    assert state.next_offset == 4
    assert state.heads["A1"] == (3, whole.records[-1].hash)


def test_what_does_not_count_is_void_and_told(ledger: Ledger, log: PostgresLog, place: int) -> None:
    again = log.read("events", place, 3, 1)[0]
    log.append("events", place, [Draft(again.key, again.value)])
    (answer,) = ledger.submit([cash("c3", "A1", "m3")])
    assert (answer.offset, answer.seq) == (5, 4)
    whole = read_all(log, fresh_state(log, "events", place))
    assert [void.offset for void in whole.voids] == [4]
    assert len(whole.records) == 5


def test_a_record_that_nobody_can_read_halts_until_it_is_parked(
    ledger: Ledger, log: PostgresLog, place: int
) -> None:
    garbage = b'{"not": "an event"}'
    log.append("events", place, [Draft("A1", garbage)])
    state = fresh_state(log, "events", place)
    first = read_valid(log, "events", place, state, 100)
    assert len(first.records) == 4
    for _ in range(2):
        with pytest.raises(LogHalted, match="decoded") as halted:
            read_valid(log, "events", place, state, 100)
        assert halted.value.offset == 4
    with pytest.raises(LogHalted):
        ledger.submit([cash("c3", "A1", "m3")])
    assert log.heads("events")[place] == 5

    wrong = RecordParked(offset=4, digest="0" * 64)
    right = RecordParked(offset=4, digest=hashlib.sha256(garbage).hexdigest())
    log.append("events", place, [control(wrong)])
    with pytest.raises(LogHalted):
        read_valid(log, "events", place, state, 100)
    log.append("events", place, [control(right)])
    batch = read_valid(log, "events", place, state, 1)
    assert [(void.offset, void.reason) for void in batch.voids] == [(4, "parked")]
    (answer,) = ledger.submit([cash("c3", "A1", "m3")])
    assert (answer.status, answer.seq) == ("accepted", 4)


def test_a_broken_chain_halts(log: PostgresLog, place: int) -> None:
    connection = log.connect()
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "UPDATE log_records SET value = convert_to(replace(convert_from(value, 'UTF8'),"
            ' \'"amount":"1"\', \'"amount":"2"\'), \'UTF8\')'
            ' WHERE topic = 0 AND partition = %s AND "offset" = 2',
            (place,),
        )
    connection.close()
    with pytest.raises(LogHalted, match="chain") as halted:
        read_all(log, fresh_state(log, "events", place))
    assert halted.value.offset == 3
    (kept,) = log.read_kept("events", place, 2, 1)
    assert kept.altered() == "hash is not the SHA-256 of value"


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_a_missing_record_halts(log: PostgresLog, place: int, offset: int) -> None:
    connection = log.connect()
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            'DELETE FROM log_records WHERE topic = 0 AND partition = %s AND "offset" = %s',
            (place, offset),
        )
    connection.close()
    with pytest.raises(LogHalted):
        read_all(log, fresh_state(log, "events", place))


def test_a_log_that_ends_before_what_was_read_halts(log: PostgresLog, place: int) -> None:
    state = PartitionState(topic="events", partition=place, next_offset=9)
    with pytest.raises(LogHalted, match="ends before 9"):
        read_valid(log, "events", place, state, 10)


def test_a_ledger_writes_under_the_term_of_the_partition(
    ledger: Ledger, log: PostgresLog, place: int
) -> None:
    """A log that was moved here from owners with terms goes on under the last one."""
    log.append("events", place, [control(TermStarted(owner="kafka"), term=3)])
    (answer,) = ledger.submit([cash("c3", "A1", "m3")])
    assert answer.event is not None
    assert codec.envelope(answer.event).term == 3
    whole = read_all(log, fresh_state(log, "events", place))
    assert whole.voids == []
    assert types(whole.records)[-2:] == ["TermStarted", "CashMoved"]


class Listed:
    """One partition of events in a list, as a log that has no index reads it."""

    log_id = LOG_ID

    def __init__(self, chain: Chain) -> None:
        self.partitions = chain.partitions
        self._records = chain.records

    def heads(self, _topic: Topic) -> list[int]:
        return [len(self._records)]

    def read(self, _topic: Topic, _partition: int, offset: int, limit: int) -> Sequence[Record]:
        return self._records[offset : offset + limit]

    def read_stream(self, _topic: Topic, key: str, end: int) -> Iterator[Record]:
        return (one for one in self._records[:end] if one.key == key)


def counting_in(log: Listed, stream: str, end: int) -> tuple[list[int], int | None]:
    """Return where a stream's records stand that count, and where it stands still, if it does."""
    found: list[int] = []
    try:
        found.extend(one.offset for one in read_valid_stream(log, "events", stream, end))  # type: ignore[arg-type]
    except LogHalted as halted:
        return found, halted.offset
    return found, None


@pytest.mark.parametrize("build", SCENARIOS)
def test_a_stream_is_judged_as_in_its_partition(build: Callable[[], Chain]) -> None:
    """Of a partition that halts, a stream has what counts before, and then what is its own."""
    chain, letters = build(), SCENARIOS[build]
    if [one.offset for one in chain.records] != list(range(len(chain.records))):
        return  # no log has such offsets: they are the reader's mistake
    for stream in ("A1", "A2", key_in(0, 16)):
        if partition_of(stream, chain.partitions) != chain.partition:
            continue
        for end in range(len(letters) + 1):
            judged = zip(chain.records[:end], letters, strict=False)
            counting = [one.offset for one, letter in judged if letter == "R" and one.key == stream]
            found, halted_at = counting_in(Listed(chain), stream, end)
            assert found[: len(counting)] == counting
            assert len(found) == len(counting) or letters[-1] == "H"
            assert halted_at is None or letters[halted_at:] == "H"
