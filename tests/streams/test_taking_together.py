"""What comes of several partitions at once is projected in one transaction, or else by turns."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from projections.cash.fold import CashFold
from projections.registry import PROJECTIONS
from schemas.envelope import Record
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, Draft, TopicPartition
from streams.read_models import ReadModels
from streams.verifying import verify
from tests.streams.kafka_history import PARTITIONS, History, history, tell
from tests.streams.kafka_homes import home
from tests.streams.keepers import EVERYWHERE, POISONED, Kept
from tests.streams.read_rows import all_rows
from tests.streams.workers import books, log, models

__all__ = ["history", "home", "log", "models"]


def begun(log: KafkaLog, models: ReadModels) -> Kept:
    """A keeper that has projected what there is in every partition."""
    kept = Kept(log, models)
    kept.keeper.assign(EVERYWHERE)
    kept.catch_up()
    return kept


def arrived(log: KafkaLog, kept: Kept) -> list[Record]:
    """What the keeper has not projected yet."""
    places = kept.keeper.next_offsets().items()
    return [one for place, at in places for one in log.read(*place, at, 100_000)]


def transactions(models: ReadModels) -> dict[int, set[str]]:
    """By partition of the events, the transactions that last wrote their checkpoints."""
    found: dict[int, set[str]] = {}
    rows = models.connection.execute(
        "SELECT partition, xmin::text FROM projection_checkpoints WHERE topic = 'events'"
    )
    for partition, transaction in rows:
        found.setdefault(partition, set()).add(transaction)
    return found


def check_books(history: History, log: KafkaLog, models: ReadModels) -> None:
    assert all_rows(models) == history.rows
    assert verify(log, models).differences == []


def test_what_comes_together_is_written_together(
    history: History, log: KafkaLog, models: ReadModels
) -> None:
    kept, together = begun(log, models), 0
    for start in range(0, len(history.told), 200):
        tell(log, history.told[start : start + 200])
        records = arrived(log, kept)
        assert not kept.keeper.take(records)
        if len({one.partition for one in records if one.topic == "events"}) == PARTITIONS:
            assert len(set.union(*transactions(models).values())) == 1
            together += 1
    assert together > 2
    check_books(history, log, models)


def test_a_partition_that_another_has_projected_does_not_hold_up_the_others(
    history: History, log: KafkaLog, models: ReadModels, dsn: str
) -> None:
    half = len(history.told) // 2
    kept = begun(log, models)
    tell(log, history.told[:half])
    assert not kept.keeper.take(arrived(log, kept))
    with books(log, dsn) as others:
        other = Kept(log, others)
        other.keeper.assign([("events", POISONED)])
        other.catch_up()
        tell(log, history.told[half:])
        records = arrived(log, kept)
        other.keeper.take([one for one in records if one.partition == POISONED])
    kept.keeper.take(records)
    assert kept.metric("daybook_checkpoints_moved_total") > 0
    heads = {topic: log.heads(topic) for topic in TOPICS}
    for topic, partition in EVERYWHERE:
        if (topic, partition) != ("events", POISONED):
            assert kept.keeper.next_offset((topic, partition)) == heads[topic][partition]
    kept.catch_up()
    check_books(history, log, models)


def test_a_record_that_halts_stops_its_own_partition_alone(
    history: History, log: KafkaLog, models: ReadModels
) -> None:
    kept = begun(log, models)
    poisoned = log.append("events", POISONED, [Draft("A1", b"\x00 no record")])
    tell(log, history.told)
    kept.keeper.take(arrived(log, kept))
    assert set(kept.keeper.halted) == {("events", POISONED)}
    assert kept.keeper.next_offset(("events", POISONED)) == poisoned
    other = 1 - POISONED
    assert kept.keeper.next_offset(("events", other)) == log.heads("events")[other]


def test_a_fold_that_fails_on_rows_of_who_is_further_is_not_halted(
    history: History, log: KafkaLog, models: ReadModels, dsn: str
) -> None:
    """Its rows were read while another projected on: they are of another time than its events."""
    meanwhile: list[Callable[[], Any]] = []

    class Confused(CashFold):
        def apply(self, batch: Sequence[Any]) -> None:
            if batch and meanwhile:
                meanwhile.pop()()
                raise KeyError("not among the rows")
            super().apply(batch)

    confused = [
        msgspec.structs.replace(one, make=Confused) if one.name == "cash" else one
        for one in PROJECTIONS
    ]
    tell(log, history.told)
    with books(log, dsn) as others:
        other = Kept(log, others)
        other.keeper.assign(EVERYWHERE)
        meanwhile.append(other.catch_up)
        own = ReadModels(dsn, models.schema, log.log_id, confused)
        try:
            kept = begun(log, own)
            assert meanwhile == []
            assert kept.metric("daybook_checkpoints_moved_total") > 0
            assert kept.metric("daybook_failed_projections") == 0
            kept.catch_up()
            assert kept.keeper.next_offsets() == other.keeper.next_offsets()
        finally:
            own.close()
    check_books(history, log, models)


def test_partitions_that_are_a_little_behind_are_caught_up_in_one_transaction(
    history: History, log: KafkaLog, models: ReadModels
) -> None:
    kept = begun(log, models)
    half = len(history.told) // 2
    tell(log, history.told[:half])
    records = arrived(log, kept)
    assert {one.partition for one in records if one.topic == "events"} == set(range(PARTITIONS))
    kept.keeper.want(records)
    kept.keeper.look()
    heads = {topic: log.heads(topic) for topic in TOPICS}
    assert not kept.keeper.catch_up()
    assert len(set.union(*transactions(models).values())) == 1
    ends = {(topic, n): head for topic in TOPICS for n, head in enumerate(heads[topic])}
    assert kept.keeper.next_offsets() == ends
    tell(log, history.told[half:])
    kept.keeper.take(arrived(log, kept))
    check_books(history, log, models)


def test_what_comes_while_a_partition_is_caught_up_is_left_to_be_handed_on(
    history: History, log: KafkaLog, models: ReadModels
) -> None:
    kept = begun(log, models)
    place: TopicPartition = ("events", POISONED)
    tell(log, history.told[:200])
    kept.keeper.want(log.read(*place, 1, 1))
    kept.keeper.look()
    head = log.heads("events")[POISONED]
    assert not kept.keeper.catch_up()
    assert kept.keeper.next_offset(place) == head
    tell(log, history.told[200:])
    assert not kept.keeper.catch_up()
    kept.keeper.look()
    assert not kept.keeper.catch_up()
    assert kept.keeper.next_offset(place) == head
    assert not kept.keeper.take(arrived(log, kept))
    check_books(history, log, models)
