"""Reading one batch ahead: the same records, whatever is asked for next."""

import sys
from collections.abc import Sequence

import pytest

from domain.commands import Topic
from projections.cash.fold import PROJECTION as CASH
from projections.rows import Wanted
from schemas.envelope import Record
from streams.folding import Folds, Work
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from streams.read_ahead import ReadAhead, reading_ahead, short_turns
from streams.reader import fresh_state, read_folded
from tests.streams.requests import cash, open_account


class Failing(PostgresLog):
    """A log that fails from an offset on."""

    fails_from = 5

    def read(self, topic: Topic, partition: int, from_offset: int, limit: int) -> list[Record]:
        if from_offset >= self.fails_from:
            raise OSError("the disk is gone")
        return super().read(topic, partition, from_offset, limit)


@pytest.fixture
def place(ledger: Ledger) -> int:
    """The partition of account A1, which has eleven records of its own."""
    movements = [cash(f"c{number}", "A1", f"m{number}") for number in range(10)]
    return ledger.submit([open_account("A1"), *movements])[0].partition


def offsets(records: Sequence[Record]) -> list[int]:
    return [record.offset for record in records]


def test_it_gives_what_the_log_has(log: PostgresLog, place: int) -> None:
    with reading_ahead(log) as ahead:
        assert isinstance(ahead, ReadAhead)
        read: list[Record] = []
        while records := ahead.read("events", place, len(read), 5):
            read.extend(records)
        assert read == log.read("events", place, 0, 100)
        assert offsets(ahead.read("events", place, 0, 3)) == [0, 1, 2]
        assert offsets(ahead.read("events", place, 7, 3)) == [7, 8, 9]
        assert offsets(ahead.read("events", place, 10, 4)) == [10, 11]
        assert ahead.read("events", place, 12, 4) == []
        assert ahead.heads("events") == log.heads("events")


def test_what_failed_ahead_is_told_to_who_asks_for_it(
    dsn: str, schema: str, log: PostgresLog, place: int
) -> None:
    failing = Failing(dsn, schema, log.log_id, log.partitions)
    try:
        with reading_ahead(failing) as ahead:
            assert len(ahead.read("events", place, 0, 5)) == 5
            assert len(ahead.read("events", place, 1, 2)) == 2
            assert len(ahead.read("events", place, 0, 5)) == 5
            with pytest.raises(OSError, match="disk is gone"):
                ahead.read("events", place, 5, 5)
    finally:
        failing.close()


def test_threads_take_turns_as_before_when_it_is_over() -> None:
    before, usual_s = sys.getswitchinterval(), 0.005
    sys.setswitchinterval(usual_s)  # a worker that ran in this process has set its own
    try:
        with short_turns():
            assert sys.getswitchinterval() < usual_s
        assert sys.getswitchinterval() == pytest.approx(usual_s)
    finally:
        sys.setswitchinterval(before)


def test_nothing_is_asked_of_a_partition_at_its_beginning(log: PostgresLog, place: int) -> None:
    asked: list[Wanted] = []
    failed: list[Work] = []

    def fetch(wanted: Wanted) -> list[tuple[object, ...]]:
        asked.append(wanted)
        return []

    def folded(first: int) -> int:
        state = fresh_state(log, "events", place)
        if first:
            read_folded(log, "events", place, state, first, scans=False)
        batch = read_folded(log, "events", place, state, 100, scans=False)
        folds = Folds(fetch, lambda work, _: failed.append(work))
        work = Work(CASH, place, first, batch.of(CASH))
        return sum(len(one.inserts) for _, changed in folds.fold([work]) for one in changed)

    assert folded(0) == folded(2) > 0
    assert [one.table.name for one in asked] == ["balance_days"]
    assert not failed
