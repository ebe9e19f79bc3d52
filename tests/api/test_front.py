"""The ledger's front, beside what the command line and the API show of it."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from api import front
from api.front import finish_transfers
from api.wiring import Parts
from domain.events import RecordParked, TransferSent, UnitLeg
from infra.settings import load_settings
from schemas.codec import encode, record_hash
from schemas.envelope import Recorded
from schemas.partitioning import partition_of
from streams.log import Draft, Log
from streams.sent_lots import sent_legs
from tests.schemas.chains import make_envelope
from tests.streams.requests import open_account, send


def test_what_left_is_found_once_for_a_transfer_that_stays_on_its_way(
    tmp_path: Path, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(log: Log, sent: Recorded) -> tuple[UnitLeg, ...]:
        assert isinstance(sent.event, TransferSent)
        asked.append(sent.event.transfer_id)
        return sent_legs(log, sent)

    monkeypatch.setattr(front, "sent_legs", counted)
    settings = load_settings(tmp_path, environ={}, folder=tmp_path)
    dsn = new_database()
    with contextlib.closing(Parts(settings, dsn, dsn)) as parts:
        log, ledger = parts.log, parts.ledger
        still = partition_of("B", log.partitions)
        assert still not in {partition_of(name, log.partitions) for name in "AC"}
        ledger.submit([open_account(name) for name in "ABC"])
        ledger.submit([send("s1", "A", "t1", "B", units="3")])
        offset = log.append("events", still, [Draft("B", b"junk")])
        finish_transfers(parts)
        ledger.submit([send("s2", "A", "t2", "C", units="2")])
        finish_transfers(parts)
        with parts.transfers() as book:
            assert not book.is_idle()
        parked = RecordParked(offset=offset, digest=record_hash(b"junk"))
        log.append("events", still, [Draft(None, encode(make_envelope(parked, 9, 0, {})))])
        assert finish_transfers(parts)
    assert asked == ["t1", "t2"]
