"""What a worker's thread does, without Faust: any delivery of records makes the same books."""

import math
import threading
import time
from collections.abc import Sequence
from random import Random

import msgspec
import pytest

from domain.decisions import Stamped
from domain.events import CashMoved, RecordParked
from domain.times import from_ns
from projections.cash.fold import CashFold
from projections.registry import PROJECTIONS
from schemas import codec
from schemas.envelope import Envelope, Record
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, Draft
from streams.read_models import ReadModels
from streams.verifying import verify
from streams.working import keeping
from streams.working.waiting import wait_for
from tests.beside import beside
from tests.streams.kafka_history import PARTITIONS, History, history, tell
from tests.streams.kafka_homes import KafkaHome, home
from tests.streams.keepers import EVERYWHERE, POISONED, Kept
from tests.streams.read_rows import all_rows
from tests.streams.workers import books, log, models

__all__ = ["history", "home", "log", "models"]


def whole(log: KafkaLog) -> list[Record]:
    return [record for place in EVERYWHERE for record in log.read(*place, 0, 100_000)]


def is_projected(log: KafkaLog, models: ReadModels) -> bool:
    return wait_for(models, {topic: log.heads(topic) for topic in TOPICS}, 0) == []


@pytest.mark.parametrize("seed", range(3))
def test_any_delivery_makes_the_same_books(
    seed: int, history: History, log: KafkaLog, models: ReadModels
) -> None:
    """Records come twice, late, early or never, and partitions are taken away and given again."""
    tell(log, history.told)
    random, records = Random(seed), whole(log)
    kept = Kept(log, models)
    kept.keeper.assign(EVERYWHERE)
    for _ in range(60):
        start = random.randrange(len(records))
        some = records[start : start + random.choice((1, 20, 300))]
        if random.random() < 0.2:
            del some[random.randrange(len(some))]
        if some:
            kept.keeper.take(some)
        match random.randrange(12):
            case 0:
                kept.keeper.revoke(random.sample(EVERYWHERE, 2))
            case 1:
                kept.keeper.assign(random.sample(EVERYWHERE, 4))
            case 2:
                kept.keeper.look()
                kept.keeper.catch_up()
            case _:
                pass
    kept.keeper.assign(EVERYWHERE)
    kept.catch_up()
    assert is_projected(log, models)
    assert all_rows(models) == history.rows
    assert verify(log, models).differences == []


def test_what_is_next_is_projected_as_it_comes_and_what_is_not_is_left(
    history: History, log: KafkaLog, models: ReadModels
) -> None:
    tell(log, history.told)
    place = ("events", POISONED)
    records = log.read(*place, 0, 300)
    kept = Kept(log, models)
    kept.keeper.assign([place])
    kept.keeper.look()
    assert not kept.keeper.take(records[:100])
    assert kept.keeper.next_offset(place) == 100
    assert not kept.keeper.take(records[50:120])
    assert kept.keeper.next_offset(place) == 120
    assert not kept.keeper.take(log.read("prices", 0, 0, 10))
    assert kept.keeper.take(records[121:130])
    assert kept.keeper.next_offset(place) == 120
    kept.catch_up()
    assert kept.keeper.next_offset(place) == log.heads("events")[POISONED]


def test_records_near_the_head_are_left_to_come_and_far_ones_are_read(
    history: History, log: KafkaLog, models: ReadModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(log, history.told)
    place = ("events", POISONED)
    head = log.heads("events")[POISONED]
    kept = Kept(log, models)
    kept.keeper.assign([place])
    assert kept.keeper.start_at({place: head}) == {place: 0}
    monkeypatch.setattr(keeping, "NEAR", head - 10)
    assert kept.keeper.start_at({place: head}) == {place: head}
    kept.keeper.take(log.read(*place, 0, 20))
    assert kept.keeper.start_at({place: head}) == {place: 20}
    kept.catch_up()
    assert kept.keeper.next_offset(place) == head
    log.append("events", POISONED, [Draft("A1", b"more")])
    kept.keeper.look()
    assert not kept.keeper.catch_up()
    assert not kept.keeper.halted
    kept.catch_up()
    assert kept.keeper.halted


def test_two_keepers_of_the_same_partitions_double_nothing(
    history: History, log: KafkaLog, models: ReadModels, dsn: str, home: KafkaHome
) -> None:
    stop = threading.Event()

    def keep() -> None:
        own_log = home.open()
        try:
            with books(own_log, dsn) as own:
                kept = Kept(own_log, own)
                kept.keeper.assign(EVERYWHERE)
                while not stop.is_set() or not is_projected(own_log, own):
                    kept.catch_up()
        finally:
            own_log.close()

    with beside(keep, keep, over=stop):
        for start in range(0, len(history.told), 15):
            tell(log, history.told[start : start + 15])
    assert all_rows(models) == history.rows
    assert verify(log, models).differences == []


def test_a_keeper_that_another_has_overtaken_goes_on_from_where_that_one_got(
    history: History, log: KafkaLog, models: ReadModels, dsn: str
) -> None:
    with books(log, dsn) as others:
        kept, other = Kept(log, models), Kept(log, others)
        third = -(-len(history.told) // 3)
        for start, one in ((0, kept), (third, other), (2 * third, kept)):
            tell(log, history.told[start : start + third])
            if not one.keeper.assigned:
                one.keeper.assign(EVERYWHERE)
            for _ in range(2):  # what is near the head is read by a second look
                one.catch_up()
        assert kept.metric("daybook_checkpoints_moved_total") > 0
        assert other.metric("daybook_checkpoints_moved_total") == 0
        kept.catch_up()
    assert all_rows(models) == history.rows
    assert verify(log, models).differences == []


def park(log: KafkaLog, partition: int, offset: int, digest: str) -> None:
    now_ns = time.time_ns()
    told = Envelope(
        id="parked",
        type="RecordParked",
        event_time=from_ns(now_ns),
        recorded_time=from_ns(now_ns),
        data=codec.encode_event(RecordParked(offset=offset, digest=digest)),
    )
    log.append("events", partition, [Draft(None, codec.encode(told), now_ns)])


def test_a_poisoned_record_halts_its_partition_until_it_is_parked(
    history: History, log: KafkaLog, models: ReadModels
) -> None:
    half = len(history.told) // 2
    tell(log, history.told[:half])
    poison = b"\x00 no record"
    offset = log.append("events", POISONED, [Draft("A1", poison)])
    tell(log, history.told[half:])
    kept = Kept(log, models)
    kept.keeper.assign(EVERYWHERE)
    kept.catch_up()
    assert set(kept.keeper.halted) == {("events", POISONED)}
    assert kept.metric("daybook_halted_partitions") == 1
    assert kept.metric("daybook_failed_projections") == 0
    assert kept.metric("daybook_projection_lag_seconds", projection="cash") > 0
    found = models.checkpoints()["cash", POISONED]
    assert found.next_offset == offset
    assert "cannot be decoded" in str(found.halted)
    heads = log.heads("events")
    other = 1 - POISONED
    assert models.checkpoints()["cash", other].next_offset == heads[other]
    heads_asked = {topic: log.heads(topic) for topic in TOPICS}
    # It does not wait for what stands still: it would wait for ever.
    assert wait_for(models, heads_asked, math.inf) == [("events", POISONED)]
    park(log, POISONED, offset, "0" * 64)
    kept.keeper.take(log.read("events", POISONED, offset, 10))
    kept.catch_up()
    assert kept.keeper.next_offset(("events", POISONED)) == offset
    park(log, POISONED, offset, codec.record_hash(poison))
    kept.catch_up()
    assert kept.keeper.halted == {}
    assert is_projected(log, models)
    assert kept.metric("daybook_halted_partitions") == 0
    assert kept.metric("daybook_projection_void_records_total", projection="cash") == 1
    assert all_rows(models)["positions"] == history.rows["positions"]
    assert verify(log, models).differences == []


class FailingFold(CashFold):
    """Fails at any cash movement."""

    def apply(self, batch: Sequence[Stamped]) -> None:
        if any(isinstance(one.event, CashMoved) for one in batch):
            raise ArithmeticError("cannot fold this")
        super().apply(batch)


def test_a_fold_that_fails_stands_alone(
    history: History, log: KafkaLog, models: ReadModels, dsn: str
) -> None:
    tell(log, history.told)
    failing = [
        msgspec.structs.replace(one, make=FailingFold) if one.name == "cash" else one
        for one in PROJECTIONS
    ]
    broken = ReadModels(dsn, models.schema, log.log_id, failing)
    kept = Kept(log, broken)
    kept.keeper.assign(EVERYWHERE)
    kept.catch_up()
    kept.catch_up()
    assert kept.metric("daybook_failed_projections", projection="cash") == PARTITIONS
    assert kept.metric("daybook_failed_projections") == PARTITIONS
    assert kept.metric("daybook_halted_partitions") == 0
    assert kept.metric("daybook_projection_lag_events", projection="cash") > 0
    assert kept.metric("daybook_projection_lag_seconds", projection="cash") > 0
    assert kept.metric("daybook_projection_lag_events", projection="positions") == 0
    broken.close()
    assert all_rows(models)["deals"] == history.rows["deals"]
    kept = Kept(log, models)
    kept.keeper.assign(EVERYWHERE)
    kept.catch_up()
    assert all_rows(models) == history.rows
    assert verify(log, models).differences == []
