"""Writing one batch behind: what is asked waits, and what is refused is told."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from projections.cash.fold import PROJECTION as CASH
from projections.registry import PROJECTIONS
from schemas.validity import PartitionState
from streams.postgres_log import PostgresLog
from streams.read_models import Advance, CheckpointMoved, ReadModels, RowsRefused
from streams.write_behind import RefusedBehind, WriteBehind

WAIT_S = 120


class Held(ReadModels):
    """Read models whose writes wait to be let go, and are refused where that is asked for."""

    refuses = False

    def hold(self) -> None:
        self.let_go = threading.Event()

    def write(self, advances: Sequence[Advance]) -> None:
        assert self.let_go.wait(WAIT_S)
        if self.refuses:
            raise RowsRefused("no such row")
        super().write(advances)


@pytest.fixture
def held(dsn: str, schema: str) -> Iterator[Held]:
    """Empty read models of a log."""
    log = PostgresLog.open(dsn, schema, partitions=2)
    models = Held(dsn, schema, log.log_id, PROJECTIONS)
    models.hold()
    yield models
    models.close()
    log.close()


def step(from_offset: int, next_offset: int) -> list[Advance]:
    state = PartitionState(topic="events", partition=0, next_offset=next_offset)
    return [Advance(CASH, 0, from_offset, state, 0, {}, [])]


def test_a_write_goes_on_behind_and_what_is_asked_waits_for_it(held: Held) -> None:
    behind = WriteBehind(held)
    with behind.overlapping():
        behind.write(step(0, 5))
        assert not held.let_go.is_set()
        held.let_go.set()
        assert behind.checkpoints()["cash", 0].next_offset == 5
        behind.write(step(5, 9))
    assert held.checkpoints()["cash", 0].next_offset == 9


def test_outside_the_block_a_write_is_done_when_it_returns(held: Held) -> None:
    held.let_go.set()
    behind = WriteBehind(held)
    behind.write(step(0, 5))
    assert held.checkpoints()["cash", 0].next_offset == 5
    with pytest.raises(CheckpointMoved):
        behind.write(step(0, 5))


def test_rows_refused_are_told_as_those_of_the_batch_before(held: Held) -> None:
    held.let_go.set()
    held.refuses = True
    behind = WriteBehind(held)
    with behind.overlapping():
        behind.write(step(0, 5))
        with pytest.raises(RefusedBehind, match="no such row"):
            behind.write(step(5, 9))
    with pytest.raises(RefusedBehind), behind.overlapping():
        behind.write(step(0, 5))
    with pytest.raises(RowsRefused):
        behind.write(step(0, 5))
    assert held.checkpoints() == {}


def test_a_write_that_fails_otherwise_fails_the_block(held: Held) -> None:
    held.let_go.set()
    behind = WriteBehind(held)
    with pytest.raises(CheckpointMoved), behind.overlapping():
        behind.write(step(3, 5))
    assert held.checkpoints() == {}
