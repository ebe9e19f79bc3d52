"""Batches decided before they have their locks: what they were decided on may not come about."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from domain import decider
from domain.commands import Request
from infra.errors import ServerUnavailable
from streams import batch_size, foreseen, ledger
from streams.answers import Status
from streams.foreseen import Foreseen, Trust
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from tests.streams.books import streams_said
from tests.streams.requests import cash, deal, define, open_account

_SIZE = 5
"""Commands in a batch."""


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_BATCH", "SMALLEST_BATCH", "LARGEST_BATCH"):
        monkeypatch.setattr(batch_size, name, _SIZE)
    monkeypatch.setattr(ledger, "BULK", _SIZE)


@pytest.fixture
def started(ledger: Ledger) -> Ledger:
    """A ledger of two accounts and two instruments."""
    asked = [open_account("A1"), open_account("A2"), define("AAPL"), define("MSFT")]
    assert {answer.status for answer in ledger.submit(asked)} == {"accepted"}
    return ledger


@pytest.fixture
def other(dsn: str, log: PostgresLog) -> Iterator[Ledger]:
    """A ledger of another process, as far as the first can tell."""
    second = PostgresLog.open(dsn, log.schema)
    opened = Ledger(second)
    yield opened
    opened.close()
    second.close()


def deals(first: int, end: int) -> list[Request]:
    return [deal(f"c{n}", f"A{1 + n % 2}", f"d{n}") for n in range(first, end)]


def statuses(ledger: Ledger, asked: list[Request]) -> list[Status]:
    return [answer.status for answer in ledger.submit(asked)]


def said_one_by_one(dsn: str, schema: str, asked: list[Request]) -> tuple[list[Status], object]:
    """Return the answers and streams of a ledger that is asked one command at a time."""
    log = PostgresLog.open(dsn, f"{schema}_snapshots")
    alone = Ledger(log)
    try:
        opened = [open_account("A1"), open_account("A2"), define("AAPL"), define("MSFT")]
        alone.submit(opened)
        answers = [answer.status for one in asked for answer in alone.submit([one])]
        return answers, streams_said(log)
    finally:
        alone.close()
        log.close()


class Meanwhile:
    """Does something before the batch of a number is committed, or in its stead."""

    def __init__(self, number: int, does: Callable[[], object]) -> None:
        self.landed: list[bool] = []
        self._number = number
        self._does = does
        self._commit = foreseen.commit

    def __call__(self, writer: psycopg.Connection[tuple[object, ...]], batch: Foreseen) -> bool:
        if len(self.landed) == self._number:
            self._does()
        landed = self._commit(writer, batch)
        self.landed.append(landed)
        return landed


def test_each_batch_is_decided_on_the_one_in_flight(
    started: Ledger, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams go on, ids are taken, and what was told twice is answered as it was."""
    meanwhile = Meanwhile(-1, lambda: None)
    monkeypatch.setattr(foreseen, "commit", meanwhile)
    asked = deals(0, 20) + deals(16, 24) + [cash("k1", "A1", "m1"), cash("k1", "A1", "m1", "2")]
    asked += [deal("x", "A1", "d18"), deal("y", "A1", "d18", "99"), *deals(24, 30)]
    told, said = said_one_by_one(dsn, schema, asked)
    assert statuses(started, asked) == told
    assert streams_said(started.log) == said
    assert len(meanwhile.landed) > 4
    assert statuses(started, asked) == [
        "duplicate" if status == "accepted" else status for status in told
    ]
    assert streams_said(started.log) == said


@pytest.mark.parametrize("again", ["command", "deal", "other", "lacking"])
def test_what_is_known_is_found_where_nothing_was_asked(
    started: Ledger, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """After some batches of new deals, the next are taken to be new; the indexes know better."""
    known = {
        "command": deal("c3", "A2", "d3"),
        "deal": deal("again", "A2", "d3"),
        "other": deal("again", "A2", "d3", "99"),
        "lacking": deal("c3", "A9", "d3"),
    }[again]
    asked = [*deals(0, 33), known, *deals(33, 50)]
    told, said = said_one_by_one(dsn, schema, asked)
    started.submit(deals(0, 5))
    meanwhile = Meanwhile(-1, lambda: None)
    monkeypatch.setattr(foreseen, "commit", meanwhile)
    assert statuses(started, asked) == ["duplicate"] * 5 + told[5:]
    assert streams_said(started.log) == said
    # With nothing in memory, and nothing asked for, it is all the same.
    started._memories.clear()
    monkeypatch.setattr(started, "_trust", trusting())
    assert statuses(started, asked) == [
        "duplicate" if status == "accepted" else status for status in told
    ]
    assert streams_said(started.log) == said


def trusting() -> Trust:
    trust = Trust()
    for _ in range(9):
        trust.looked_up(was_known=False)
    assert trust.holds
    return trust


@pytest.mark.parametrize("number", [0, 1, 3])
def test_what_another_writes_meanwhile_is_seen(
    started: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    theirs = [deal("theirs", "A1", "d12", "99"), deal("t2", "A2", "d13")]
    meanwhile = Meanwhile(number, lambda: other.submit(theirs))
    monkeypatch.setattr(foreseen, "commit", meanwhile)
    answers = started.submit(deals(0, 20))
    assert meanwhile.landed == [True] * number + [False]
    told = [answer.status for answer in answers]
    # A1 has d12 at another price by then, A2 the very same d13; where those were first, not.
    assert (told[12], told[13]) == (
        ("accepted", "accepted") if number > 2 else ("refused", "duplicate")
    )
    assert told[:12] + told[14:] == ["accepted"] * 18
    assert statuses(started, deals(0, 20))[14:] == ["duplicate"] * 6


def test_an_instrument_that_is_defined_meanwhile_is_read_anew(
    started: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile = Meanwhile(1, lambda: other.submit([define("GOOG")]))
    monkeypatch.setattr(foreseen, "commit", meanwhile)
    assert statuses(started, deals(0, 20)) == ["accepted"] * 20
    assert meanwhile.landed == [True, False]


def test_what_fails_on_the_way_leaves_whole_batches(log: PostgresLog) -> None:
    def decide(view, asked, content_hash):  # type: ignore[no-untyped-def]
        if asked.command_id == "bad":
            raise AssertionError("an invariant is broken")
        return decider.decide(view, asked, content_hash)

    failing = Ledger(log, decide=decide)
    try:
        failing.submit([open_account("A1"), define("AAPL")])
        asked = [cash(f"c{n}", "A1", f"m{n}") for n in range(12)] + [cash("bad", "A1", "m")]
        with pytest.raises(AssertionError, match="invariant"):
            failing.submit([*asked, *deals(0, 10)])
        assert len(streams_said(log)["events", "A1"]) == 1 + 2 * _SIZE
        told = statuses(failing, asked[:12])
        assert told == ["duplicate"] * 2 * _SIZE + ["accepted"] * 2
    finally:
        failing.close()


def test_a_server_lost_on_the_way_leaves_whole_batches(
    started: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_sessions() -> None:
        killer = started.log.connect()
        for session in (started._writer, started._reader):
            assert session is not None
            killer.execute("SELECT pg_terminate_backend(%s)", (session.info.backend_pid,))
        killer.close()

    monkeypatch.setattr(foreseen, "commit", Meanwhile(2, end_sessions))
    with pytest.raises(ServerUnavailable):
        started.submit(deals(0, 40))
    monkeypatch.undo()
    assert sum(map(len, streams_said(started.log).values())) == 4 + 2 * _SIZE
    told = statuses(started, deals(0, 40))
    assert told == ["duplicate"] * 2 * _SIZE + ["accepted"] * (40 - 2 * _SIZE)
