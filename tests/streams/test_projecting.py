"""The runner against a real log: exactly once, in any batches, through faults."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from domain.decisions import Stamped
from domain.events import CashMoved, RecordParked
from domain.times import from_ns
from infra import postgres
from infra.errors import ServerUnavailable
from projections.accounts.fold import AccountsFold
from projections.cash.fold import CashFold
from projections.registry import PROJECTIONS
from projections.rows import Changed
from schemas import codec
from schemas.envelope import Envelope
from schemas.partitioning import partition_of
from streams.ledger import Ledger
from streams.log import Draft, LogHalted
from streams.postgres_log import PostgresLog
from streams.projecting import CheckpointMoved, Projector
from streams.read_models import Advance, ReadModels
from streams.verifying import verify
from tests.beside import beside
from tests.streams.books import rebuild
from tests.streams.read_rows import all_checkpoints, all_rows
from tests.streams.sample_book import sample_requests

PARTITIONS = 2


@pytest.fixture
def log(dsn: str, schema: str) -> Iterator[PostgresLog]:
    """A fresh log of two partitions."""
    opened = PostgresLog.open(dsn, schema, partitions=PARTITIONS)
    yield opened
    opened.close()


@pytest.fixture
def models(dsn: str, schema: str, log: PostgresLog) -> Iterator[ReadModels]:
    """The read models, empty."""
    opened = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    yield opened
    opened.close()


def models_beside(
    dsn: str, schema: str, log: PostgresLog, projections: Sequence[Any]
) -> ReadModels:
    """Read models of the same log in a schema of their own."""
    return ReadModels(dsn, f"{schema}_snapshots", log.log_id, projections)


def a_partition(key: str) -> int:
    return partition_of(key, PARTITIONS)


def test_batches_of_any_size_and_a_rebuild_make_the_same_rows(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    small = models_beside(dsn, schema, log, PROJECTIONS)
    requests = sample_requests()
    projector = Projector(log, small, batch=7)
    for start in range(0, len(requests), 60):
        ledger.submit(requests[start : start + 60])
        projector.catch_up()
        projector = projector if start % 120 else Projector(log, small, batch=11)
    read = Projector(log, models).catch_up()
    assert read == sum(sum(log.heads(topic)) for topic in ("events", "prices", "reference"))
    assert all(all_rows(models).values())
    assert all_rows(small) == all_rows(models)
    before, places = all_rows(models), all_checkpoints(models)
    assert rebuild(log, models, PROJECTIONS, batch=50) == read
    assert (all_rows(models), all_checkpoints(models)) == (before, places)
    assert verify(log, models).differences == []
    assert verify(log, small).differences == []
    small.close()


def test_what_is_a_little_behind_is_written_in_one_transaction(
    log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    projector = Projector(log, models)
    for requests in (sample_requests()[:100], sample_requests()[100:]):
        ledger.submit(requests)
        before = _transactions(models)
        assert projector.catch_up() > 1
        moved = _transactions(models).items() - before.items()
        assert len({place for (_, place), _ in moved}) > 1
        assert len({transaction for _, transaction in moved}) == 1


def _transactions(models: ReadModels) -> dict[tuple[str, str], str]:
    """What wrote each checkpoint last, by projection and partition."""
    rows = models.connection.execute(
        "SELECT projection, topic || partition, xmin::text FROM projection_checkpoints"
    ).fetchall()
    return {(projection, place): transaction for projection, place, transaction in rows}


def test_nothing_is_read_twice_and_status_says_where_all_stand(
    log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    ledger.submit(sample_requests(20))
    projector = Projector(log, models)
    assert projector.catch_up() > 0
    assert projector.catch_up() == 0
    assert Projector(log, models).catch_up() == 0
    lags = projector.status()
    assert len(lags) == PARTITIONS * len(PROJECTIONS)
    assert {(one.lag, one.halted) for one in lags} == {(0, None)}
    heads = log.heads("events")
    assert all(one.checkpoint == heads[one.partition] - 1 for one in lags if one.topic == "events")
    # Where the log ended was asked first, and others have gone on since.
    assert not any(one.lag for one in projector.status({"events": [0] * PARTITIONS}))


def test_two_projectors_at_once_never_double(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    requests = sample_requests()
    ledger.submit(requests[:100])

    def project() -> None:
        own_log = PostgresLog.open(dsn, schema)
        own = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
        try:
            projector = Projector(own_log, own, batch=5)
            for _ in range(30):
                projector.catch_up()
        finally:
            own.close()
            own_log.close()

    with beside(project, project):
        for start in range(100, len(requests), 20):
            ledger.submit(requests[start : start + 20])
    Projector(log, models).catch_up()
    assert verify(log, models).differences == []


def test_a_checkpoint_that_has_moved_stops_a_write(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    ledger.submit(sample_requests(50))
    other = ReadModels(dsn, schema, log.log_id, PROJECTIONS)

    class Overtaken(ReadModels):
        is_overtaken = False

        def write(self, advances: Any) -> None:
            if not self.is_overtaken:
                self.is_overtaken = True
                other.write(advances)
            super().write(advances)

    overtaken = Overtaken(dsn, schema, log.log_id, PROJECTIONS)
    projector = Projector(log, overtaken)
    with pytest.raises(CheckpointMoved):
        projector.step("prices", a_partition("AAPL"))
    assert projector.places("prices", a_partition("AAPL"))["prices"] == 2
    for known in (0, 1):  # tables that are there, and their owner who has gone on
        assert not models.halt("prices", "prices", a_partition("AAPL"), known, "told too late")
    assert not any(one.halted for one in models.checkpoints().values())
    projector.catch_up()
    overtaken.close()
    other.close()
    assert verify(log, models).differences == []


def test_a_lost_connection_leaves_rows_and_checkpoint_as_one(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger
) -> None:
    ledger.submit(sample_requests())

    class Dying(ReadModels):
        """Loses its connection after the first, the second ... part of what it writes."""

        dies_at = 1
        writes = 0

        def _write_few(self, few: Sequence[Changed]) -> None:
            super()._write_few(few)
            self._count()

        def _write_rows(self, changed: Changed) -> None:
            super()._write_rows(changed)
            self._count()

        def _check_moved(
            self, advances: Sequence[Advance], made: Mapping[str, str], has_moved: bool
        ) -> None:
            super()._check_moved(advances, made, has_moved)
            self._count()

        def _count(self) -> None:
            self.writes += 1
            if self.writes == self.dies_at:
                killer = postgres.connect(dsn)
                backend = self.connection.info.backend_pid
                killer.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))
                killer.close()

    models = Dying(dsn, schema, log.log_id, PROJECTIONS)
    projector = Projector(log, models, batch=20)
    lost = 0
    while lost < 8:
        with pytest.raises(ServerUnavailable):
            projector.catch_up()
        lost, models.dies_at, models.writes = lost + 1, models.dies_at + 1, 0
    models.dies_at = 0
    projector.catch_up()
    assert verify(log, models).differences == []
    models.close()


def _poison(log: PostgresLog, partition: int) -> int:
    return log.append("events", partition, [Draft("A1", b"\x00 no record")])


def _park(log: PostgresLog, partition: int, offset: int) -> None:
    value = log.read("events", partition, offset, 1)[0].value
    parked = RecordParked(offset=offset, digest=codec.record_hash(value))
    time = from_ns(log.read_kept("events", partition, offset, 1)[0].recorded_ns)
    envelope = Envelope(
        id="parked",
        type="RecordParked",
        event_time=time,
        recorded_time=time,
        data=codec.encode_event(parked),
    )
    log.append("events", partition, [Draft(None, codec.encode(envelope))])


@pytest.mark.parametrize("known", [0, 40])
def test_a_poisoned_record_halts_its_partition_until_it_is_parked(
    log: PostgresLog, ledger: Ledger, models: ReadModels, known: int
) -> None:
    partition = a_partition("A1")
    requests = sample_requests(80)
    ledger.submit(requests[:known])
    offset = _poison(log, partition)
    projector = Projector(log, models, batch=16)
    projector.catch_up()
    halted = {(one.partition, one.name): one for one in projector.status() if one.halted}
    assert set(halted) == {(partition, one.name) for one in PROJECTIONS if one.topic == "events"}
    assert {one.checkpoint for one in halted.values()} == {offset - 1}
    assert all("cannot be decoded" in str(one.halted) for one in halted.values())
    assert f"events/{partition}:{offset}" in verify(log, models).differences[-1].where
    projector.catch_up()
    _park(log, partition, offset)
    projector.catch_up()
    assert not any(one.halted or one.lag for one in projector.status())
    ledger.submit(requests[known:])
    projector.catch_up()
    verdict = verify(log, models)
    assert (verdict.differences, verdict.voids) == ([], 1)
    assert all_checkpoints(models)["cash", partition][1] == 1


def test_who_is_overtaken_at_a_poisoned_record_halts_nothing(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    """Another sees it parked in the midst of halting; at the next one the halt is true."""
    partition = a_partition("A1")
    ledger.submit(sample_requests(40))
    offset = _poison(log, partition)
    meanwhile = [lambda: _step_on(Projector(log, models), partition)]
    meanwhile.append(lambda: _park(log, partition, offset))

    class Overtaken(ReadModels):
        def halt(self, *args: Any) -> bool:
            while meanwhile:
                meanwhile.pop()()
            return super().halt(*args)

    own = Overtaken(dsn, schema, log.log_id, PROJECTIONS)
    projector = Projector(log, own)
    with pytest.raises(CheckpointMoved, match=rf"no longer all at accounts {partition}:{offset}"):
        _step_on(projector, partition)
    assert not any(one.halted for one in own.checkpoints().values())
    _poison(log, partition)
    with pytest.raises(LogHalted):
        _step_on(projector, partition)
    halted = {name for (name, _), one in own.checkpoints().items() if one.halted}
    assert halted == {one.name for one in PROJECTIONS if one.topic == "events"}
    own.close()


def _step_on(projector: Projector, partition: int) -> None:
    while projector.step("events", partition):
        pass


class FailingFold(CashFold):
    """Fails at a cash movement of one id."""

    def apply(self, batch: Sequence[Stamped]) -> None:
        for one in batch:
            if isinstance(one.event, CashMoved) and one.event.cash_id == FAILS_AT:
                raise ArithmeticError("cannot fold this")
        super().apply(batch)


class UnwritableFold(AccountsFold):
    """Makes rows that no database takes."""

    def changes(self) -> Sequence[Changed]:
        (changed,) = super().changes()
        for rows in (changed.inserts, changed.upserts):
            rows[:] = [msgspec.structs.replace(row, portfolio="\x00") for row in rows]
        return (changed,)


FAILS_AT = next(
    one.command.cash_id for one in sample_requests() if isinstance(one.command, CashMoved)
)


@pytest.mark.parametrize(("name", "make"), [("cash", FailingFold), ("accounts", UnwritableFold)])
def test_a_fold_that_fails_halts_alone(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, name: str, make: Any
) -> None:
    requests = sample_requests()
    ledger.submit(requests)
    failing = [
        msgspec.structs.replace(one, make=make) if one.name == name else one for one in PROJECTIONS
    ]
    models = models_beside(dsn, schema, log, failing)
    projector = Projector(log, models, batch=25)
    projector.catch_up()
    halted = [one for one in projector.status() if one.halted]
    assert {one.name for one in halted} == {name}
    assert all(one.lag > 0 and "the fold failed" in str(one.halted) for one in halted)
    assert not any(one.lag for one in projector.status() if one.name != name)
    assert projector.catch_up() == 0
    models.close()
    repaired = models_beside(dsn, schema, log, PROJECTIONS)
    projector = Projector(log, repaired, batch=25)
    projector.catch_up()
    assert not any(one.halted or one.lag for one in projector.status())
    assert verify(log, repaired).differences == []
    repaired.close()


def test_a_new_version_is_filled_anew(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    ledger.submit(sample_requests(60))
    Projector(log, models).catch_up()
    before = all_rows(models)
    models.close()
    newer = [
        msgspec.structs.replace(one, version=one.version + 1) if one.name == "cash" else one
        for one in PROJECTIONS
    ]
    again = ReadModels(dsn, schema, log.log_id, newer)
    assert all_rows(again)["cash_legs"] == []
    assert all_rows(again)["deals"] == before["deals"]
    Projector(log, again).catch_up()
    assert all_rows(again) == before
    again.close()
