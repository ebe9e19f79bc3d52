"""Catching up with plain deals recognised: the same rows, checkpoints and heads."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from domain.commands import RecordDeal
from domain.events import Fee
from projections.registry import PROJECTIONS
from schemas.envelope import Record
from schemas.validity import PartitionState
from streams import reader
from streams.ledger import Ledger
from streams.log import LogHalted
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import ReadModels
from streams.reader import fresh_state, read_folded
from streams.verifying import verify
from tests.streams.read_rows import all_checkpoints, all_rows
from tests.streams.sample_book import sample_requests


@pytest.fixture(autouse=True)
def _scans_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_WORTH_A_SCAN", 1)


@pytest.fixture
def log(dsn: str, schema: str) -> Iterator[PostgresLog]:
    """A fresh log of two partitions."""
    opened = PostgresLog.open(dsn, schema, partitions=2)
    yield opened
    opened.close()


@pytest.fixture
def recorded(ledger: Ledger) -> None:
    """A log of everything there is, and of deals told in every way that is plain."""
    requests = sample_requests(300)
    for number, one in enumerate(requests):
        command = one.command
        if isinstance(command, RecordDeal) and number % 3 == 0:
            fee = Fee(kind="commission", amount=Decimal("1.50"), currency="USD")
            other = msgspec.structs.replace(fee, currency="EUR")
            command = msgspec.structs.replace(
                command,
                fees=((fee,), (other,), (fee, other), ())[number % 4],
                venue=(None, "XNYS")[number % 2],
                ids=({}, {"exec_id": f"e{number}"}, {"exec_id": "a", "other": "b"})[number % 3],
                tags=((), ("a", "b"))[number % 2],
            )
            requests[number] = msgspec.structs.replace(one, command=command)
    ledger.submit(requests)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("batch", [7, 200])
def test_the_same_rows_are_made(dsn: str, schema: str, log: PostgresLog, batch: int) -> None:
    decoded = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    scanned = ReadModels(dsn, f"{schema}_snapshots", log.log_id, PROJECTIONS)
    try:
        Projector(log, decoded, scans_from=1 << 60).catch_up()
        Projector(log, scanned, batch=batch, scans_from=0).catch_up()
        assert all_rows(scanned) == all_rows(decoded)
        assert all_checkpoints(scanned) == all_checkpoints(decoded)
        assert verify(log, scanned).differences == []
    finally:
        decoded.close()
        scanned.close()


class Altered:
    """A log of which one record is another when it is read."""

    def __init__(self, log: PostgresLog, record: Record) -> None:
        self._log, self._record = log, record
        self.log_id, self.partitions, self.heads = log.log_id, log.partitions, log.heads

    def read(self, topic: str, partition: int, from_offset: int, limit: int) -> list[Record]:
        records = self._log.read(topic, partition, from_offset, limit)  # type: ignore[arg-type]
        return [self._record if one.offset == self._record.offset else one for one in records]


def read_through(log: object, partition: int, *, scans: bool) -> tuple[PartitionState, int, str]:
    state, voids = fresh_state(log, "events", partition), 0  # type: ignore[arg-type]
    try:
        while True:
            batch = read_folded(log, "events", partition, state, 50, scans=scans)  # type: ignore[arg-type]
            if batch.is_empty:
                return state, voids, ""
            voids += len(batch.voids)
    except LogHalted as halted:
        return state, voids, str(halted)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    ("told", "instead"),
    [
        (b'"prev_hash":"', b'"prev_hash":"f'),
        (b'"term":0', b'"term":7'),
        (b'"seq":', b'"seq":1'),
        (b'"quantity":"', b'"quantity":"0'),
        (b'"deal_id":"', b'"unknown":1,"deal_id":"'),
        (b'"account":"', b'"account":"Z'),
        (b'"cost":"', b'"cost":"1'),
    ],
)
def test_what_does_not_count_is_told_alike(log: PostgresLog, told: bytes, instead: bytes) -> None:
    records = [one for n in range(2) for one in log.read("events", n, 0, 10_000)]
    deals = [one for one in records if b'"DealRecorded"' in one.value and told in one.value]
    deal = deals[len(deals) // 2]
    other = msgspec.structs.replace(deal, value=deal.value.replace(told, instead, 1))
    altered = Altered(log, other)
    one, two = (read_through(altered, deal.partition, scans=scans) for scans in (False, True))
    assert one == two
    assert one[1] or one[2]
