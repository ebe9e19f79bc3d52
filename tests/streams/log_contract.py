"""What every log must do. A test module of a back end subclasses LogContract and gives log_home."""

import contextlib
import json
import multiprocessing
import time
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import pytest

from domain.events import AccountClosed, LogCreated
from domain.times import Instant, from_ns
from schemas import codec
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams.log import (
    TOPICS,
    CommandTaken,
    Draft,
    Log,
    LogError,
    LogHalted,
    command_ref,
    read_unkeyed,
)
from streams.reader import read_valid_stream
from tests.beside import beside
from tests.schemas.chains import Chain

_SPAWN = multiprocessing.get_context("spawn")


class LogHome(Protocol):
    """Where a log is, such that another process can open the same one. Must be picklable."""

    def open(self) -> Log: ...


def draft(key: str, number: int, *, recorded_ns: int = 0, size: int = 20) -> Draft:
    value = json.dumps({"number": number, "key": key, "filler": "x" * size}).encode()
    return Draft(key, value, recorded_ns)


def numbers(records: Sequence[Record]) -> list[tuple[str | None, int]]:
    return [(r.key, json.loads(r.value)["number"]) for r in records if r.key is not None]


def whole(log: Log, partition: int) -> list[Record]:
    records: list[Record] = []
    while batch := log.read("events", partition, len(records), 1000):
        records.extend(batch)
    return records


class LogContract:
    """Tests that a log passes by its name alone."""

    @pytest.fixture
    def log_home(self) -> LogHome:
        pytest.fail("a back end's test module says where its log is")

    @pytest.fixture
    def log(self, log_home: LogHome):
        opened = log_home.open()
        yield opened
        opened.close()

    def test_each_partition_begins_with_its_creation(self, log: Log) -> None:
        for topic in TOPICS:
            assert log.heads(topic) == [1] * log.partitions
            for partition in range(log.partitions):
                (record,) = log.read(topic, partition, 0, 10)
                recorded = codec.decode(record)
                assert record.key is None
                assert recorded.event == LogCreated(
                    log_id=log.log_id,
                    topic=topic,
                    partition=partition,
                    partitions=log.partitions,
                )

    def test_opened_again_it_is_the_same_log(self, log_home: LogHome, log: Log) -> None:
        again = log_home.open()
        try:
            assert (again.log_id, again.partitions) == (log.log_id, log.partitions)
            assert again.heads("events") == [1] * log.partitions
        finally:
            again.close()

    def test_appended_records_are_read_in_order_without_gaps(self, log: Log) -> None:
        assert log.append("events", 3, [draft("A", 1), draft("B", 2)]) == 1
        assert log.append("events", 3, [draft("A", 3)]) == 3
        records = log.read("events", 3, 1, 10)
        assert [record.offset for record in records] == [1, 2, 3]
        assert numbers(records) == [("A", 1), ("B", 2), ("A", 3)]
        assert {(r.topic, r.partition) for r in records} == {("events", 3)}
        assert log.heads("events")[3] == 4
        assert log.heads("prices")[3] == 1

    def test_a_limit_and_a_start_are_kept_to(self, log: Log) -> None:
        log.append("prices", 0, [draft("A", number) for number in range(10)])
        assert numbers(log.read("prices", 0, 4, 3)) == [("A", 3), ("A", 4), ("A", 5)]
        assert list(log.read("prices", 0, 11, 3)) == []

    def test_values_come_back_to_the_byte(self, log: Log) -> None:
        values = [b"", b"\x00\xff not json", bytes(range(256)), b"x" * 1_000_000]
        log.append("events", 0, [Draft("A", value) for value in values])
        assert [record.value for record in log.read("events", 0, 1, 10)] == values

    def test_keys_may_be_any_id(self, log: Log) -> None:
        keys = ["ä", "a b", "'; --", "\\", "名" * 128, "{}", '"', None]
        log.append("events", 1, [Draft(key, b"{}") for key in keys])
        assert [record.key for record in log.read("events", 1, 1, 20)] == keys

    def test_one_stream_is_read_alone_up_to_an_offset(self, log: Log) -> None:
        log.append("events", 2, [draft("AB"[n % 2], n) for n in range(2, 5002)])
        log.append("prices", 2, [draft("A", 1)])
        stream = list(log.read_stream("events", "A", 10_000))
        assert numbers(stream) == [("A", n) for n in range(2, 5002, 2)]
        cut = stream[-1].offset
        assert list(log.read_stream("events", "A", cut)) == stream[:-1]
        assert list(log.read_stream("events", "A", cut, stream[3].offset)) == stream[3:-1]
        assert list(log.read_stream("events", "nobody", 10_000)) == []

    def test_what_does_not_count_is_in_no_stream(self, log: Log) -> None:
        """What a deposed owner wrote, and what halted its partition until it was parked."""
        partition, event = partition_of("A", log.partitions), AccountClosed(reason="x")
        chain = Chain("events", partition, log.partitions, log.log_id)
        chain.start_term(1)
        chain.append("A", event)
        chain.start_term(2)
        head = chain.heads["A"]
        chain.append("A", event, term=1)
        chain.heads["A"] = head
        chain.append("A", event)
        chain.raw("A", b"no record")
        head = chain.heads["A"]
        chain.append("A", event, prev_hash="f" * 64)
        chain.heads["A"] = head
        chain.append("A", event)
        log.append("events", partition, [Draft(one.key, one.value) for one in chain.records[1:]])
        with pytest.raises(LogHalted, match="decoded") as halted:
            list(read_valid_stream(log, "events", "A", 9))
        assert halted.value.offset == 6
        parked = [chain.park(6), chain.park(7)]
        log.append("events", partition, [Draft(None, one.value) for one in parked])
        for end in (9, 11):
            counting = read_valid_stream(log, "events", "A", end)
            assert [(one.offset, one.envelope.seq) for one in counting] == [(2, 1), (5, 2), (8, 3)]
        elsewhere = (partition + 1) % log.partitions
        log.append("events", elsewhere, [Draft("A", b"no record")])
        assert len(list(read_valid_stream(log, "events", "A", 11))) == 3
        unkeyed = read_unkeyed(log, "events", partition, 10)
        assert [record.offset for record in unkeyed] == [0, 1, 3, 9]
        assert unkeyed == [one for one in log.read("events", partition, 0, 10) if one.key is None]

    def test_nothing_appended_is_nothing_changed(self, log: Log) -> None:
        assert log.append("events", 0, []) == 1
        assert log.heads("events")[0] == 1

    def test_an_instant_becomes_positions(self, log: Log) -> None:
        start = time.time_ns()
        times = [start, start + 10, start + 10, start + 500]
        log.append("events", 4, [draft("A", n, recorded_ns=t) for n, t in enumerate(times)])
        log.append("events", 5, [draft("B", 1, recorded_ns=start + 20)])

        def at(time_ns: int) -> list[int]:
            return log.positions_at("events", from_ns(time_ns))[4:6]

        assert at(start - 1) == [1, 1]
        assert at(start) == [2, 1]
        assert at(start + 9) == [2, 1]
        assert at(start + 10) == [4, 1]
        assert at(start + 20) == [4, 2]
        assert at(start + 500) == [5, 2]
        future = Instant("2200-01-01T00:00:00.000000000Z")
        assert log.positions_at("events", future) == log.heads("events")
        past = Instant("1700-01-01T00:00:00.000000000Z")
        assert log.positions_at("events", past) == [0] * log.partitions

    def test_a_partition_that_is_not_there_takes_nothing(self, log: Log) -> None:
        with pytest.raises(LogError):
            log.append("events", log.partitions, [draft("A", 1)])

    def test_recorded_times_never_run_backwards(self, log: Log) -> None:
        now = time.time_ns()
        log.append("events", 0, [draft("A", 1, recorded_ns=now)])
        with pytest.raises(LogError, match="recorded time"):
            log.append("events", 0, [draft("A", 2), draft("A", 3, recorded_ns=now - 1)])
        assert log.heads("events")[0] == 2

    def test_a_command_is_answered_once(self, log: Log) -> None:
        ref = command_ref("events", "A", "c1")
        log.append("events", 0, [Draft("A", b"{}", 0, ref)])
        with pytest.raises(CommandTaken):
            log.append("events", 0, [draft("A", 1), Draft("A", b"{}", 0, ref)])
        assert log.heads("events")[0] == 2
        assert len(log.read("events", 0, 0, 10)) == 2

    def test_two_processes_at_once_leave_one_log_and_every_record(self, log_home: LogHome) -> None:
        writers = [
            _SPAWN.Process(target=_write_batches, args=(log_home, name, 30)) for name in "AB"
        ]
        for writer in writers:
            writer.start()
        try:
            for writer in writers:
                writer.join(200)
            assert [writer.exitcode for writer in writers] == [0, 0]
        finally:
            for writer in writers:
                writer.kill()
        log = log_home.open()
        records = whole(log, 7)
        log.close()
        assert [record.offset for record in records] == list(range(len(records)))
        for name in "AB":
            ours = [number for key, number in numbers(records) if key == name]
            assert ours == list(range(30 * 7))

    def test_a_reader_beside_writers_never_sees_a_gap(self, log_home: LogHome, log: Log) -> None:
        seen: list[int] = []
        deadline = time.monotonic() + 200
        with beside(*(partial(_write_batches, log_home, name, 20) for name in "AB")):
            while len(seen) < 1 + 2 * 20 * 7 and time.monotonic() < deadline:
                seen.extend(record.offset for record in log.read("events", 7, len(seen), 5))
        assert seen == list(range(1 + 2 * 20 * 7))

    def test_a_killed_writer_leaves_whole_batches_or_none(self, log_home: LogHome) -> None:
        log_home.open().close()
        told, telling = _SPAWN.Pipe(duplex=False)
        writer = _SPAWN.Process(target=_write_for_ever, args=(log_home, telling))
        writer.start()
        telling.close()  # so that one who dies by itself is not waited for
        acknowledged = 0
        try:
            while acknowledged < 5:
                acknowledged = told.recv()
        finally:
            writer.kill()
            writer.join()
        with contextlib.suppress(EOFError):
            while True:
                acknowledged = told.recv()
        log = log_home.open()
        records = whole(log, 0)
        assert [record.offset for record in records] == list(range(len(records)))
        landed = numbers(records)
        assert len(landed) % _BATCH == 0
        assert len(landed) >= acknowledged * _BATCH
        assert landed == [("A", number) for number in range(len(landed))]
        assert log.append("events", 0, [draft("A", 1)]) == len(records)
        log.close()

    def test_command_refs_differ_by_topic_key_and_id(self) -> None:
        refs = {
            command_ref("events", "a", "b"),
            command_ref("prices", "a", "b"),
            command_ref("events", "ab", ""),
            command_ref("events", "", "ab"),
            command_ref("events", "b", "a"),
        }
        assert len(refs) == 5
        assert {len(ref) for ref in refs} == {16}


_BATCH = 500


def _write_batches(log_home: LogHome, name: str, batches: int) -> None:
    log = log_home.open()
    for batch in range(batches):
        log.append("events", 7, [draft(name, batch * 7 + n) for n in range(7)])
    log.close()


def _write_for_ever(log_home: LogHome, telling) -> None:  # type: ignore[no-untyped-def]
    log = log_home.open()
    batch = 0
    while True:
        drafts = [draft("A", batch * _BATCH + n, size=2000) for n in range(_BATCH)]
        log.append("events", 0, drafts)
        batch += 1
        telling.send(batch)


__all__ = ["LogContract", "LogHome", "draft", "numbers", "whole"]
