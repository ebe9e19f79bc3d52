"""Reads for the feed: pieces make up the table, from one moment, whatever the sizes."""

from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import pytest
from msgspec.structs import replace

from api.http.feed import reading, sources
from api.http.feed.reading import Ask, Moment, Piece, Reader
from api.http.feed.sources import FED_TABLES, SOURCES
from api.questions import Asker, Question
from api.read_models import READ_MODELS
from api.tables import json_row
from api.wiring import Parts, running
from domain.commands import Topic
from domain.events import RecordParked
from infra.settings import load_settings
from projections.registry import PROJECTIONS
from schemas.codec import encode, envelope, record_hash
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams import voids
from streams.log import Draft, Log
from streams.past import stream_events
from tests.api.command_line import CommandLine
from tests.api.conftest import NewDaybook
from tests.schemas.chains import make_envelope
from tests.streams.sample_book import ACCOUNTS, sample_requests


@pytest.fixture(scope="module")
def parts(new_daybook: NewDaybook) -> Iterator[Parts]:
    """A sample book, projected, with records that do not count."""
    daybook: CommandLine = new_daybook()
    settings = load_settings(environ=daybook.environment, folder=daybook.folder)
    with running(settings) as made:
        requests = sample_requests(400)
        made.ledger.submit(requests[:200])
        _spoil(made.log, ACCOUNTS[0])
        made.ledger.submit(requests[200:])
        made.projector.catch_up()
        yield made


def _spoil(log: Log, account: str) -> None:
    """Write a record twice, then one that breaks the chain and one that follows it; park that."""
    partition = partition_of(account, log.partitions)
    (*_, last) = log.read_stream("events", account, 2**62)
    told = envelope(last.value)
    broken = encode(replace(told, seq=told.seq + 1, prev_hash="f" * 64, id="broken"))
    after = replace(told, seq=told.seq + 2, prev_hash=record_hash(broken), id="after")
    values = [last.value, broken, encode(after)]
    first = log.append("events", partition, [Draft(account, value) for value in values])
    parked = RecordParked(offset=first + 1, digest=record_hash(broken))
    log.append("events", partition, [Draft(None, encode(make_envelope(parked, 1, told.term, {})))])


@pytest.fixture
def reader(parts: Parts) -> Reader:
    """What reads the sample book."""
    return Reader(lambda: parts.models.connection, parts.log)


def pieces(reader: Reader, topic: str, account: str | None) -> Iterator[Piece]:
    """Yield pieces until there is no more."""
    position = None
    while True:
        moment: Moment = reader.read([Ask(topic, account, position)])
        (piece,) = moment.pieces
        assert piece is not None
        assert piece.previous == position
        yield piece
        position = piece.position
        if piece.is_whole:
            return


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("account", [*ACCOUNTS, "nobody", None])
@pytest.mark.parametrize("topic", [topic for topic in SOURCES if topic != "events"])
def test_pieces_make_up_the_table(
    parts: Parts,
    reader: Reader,
    monkeypatch: pytest.MonkeyPatch,
    topic: str,
    account: str | None,
    size: int,
) -> None:
    monkeypatch.setattr(sources, "PIECE_ROWS", size)
    rows = {row.key: row.json for piece in pieces(reader, topic, account) for row in piece.rows}
    model = READ_MODELS[topic]
    shown = model.ask(Asker(parts, Question(account=account), is_current=True))
    names = [name for name, _ in shown.columns]
    assert [rows[key] for key in sorted(rows)] == [json_row(names, row) for row in shown.rows]


@pytest.mark.parametrize("size", [3, 10_000])
@pytest.mark.parametrize("account", [*ACCOUNTS, None])
def test_events_are_all_there_once(
    parts: Parts,
    reader: Reader,
    monkeypatch: pytest.MonkeyPatch,
    account: str | None,
    size: int,
) -> None:
    monkeypatch.setattr(sources, "PIECE_ROWS", size)
    found = [
        msgspec.json.decode(row.json)
        for piece in pieces(reader, "events", account)
        for row in piece.rows
    ]
    for name in ACCOUNTS if account is None else (account,):
        own: list[dict[str, Any]] = [row for row in found if row["account"] == name]
        wanted = [one.seq for one in stream_events(parts.log, "events", name, 2**62)]
        assert [row["seq"] for row in own] == wanted
        hashes = ["0" * 64, *(row["hash"] for row in own)]
        assert [row["prev_hash"] for row in own][1:] == hashes[1:-1]
        assert not {"broken", "after"} & {row["id"] for row in own}


@pytest.mark.parametrize("account", [*ACCOUNTS, None])
@pytest.mark.parametrize("topic", SOURCES)
def test_no_piece_is_larger_than_a_client_takes(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, topic: str, account: str | None
) -> None:
    whole = {row.key: row.json for piece in pieces(reader, topic, account) for row in piece.rows}
    monkeypatch.setattr(reading, "PIECE_BYTES", 2_000)
    cut = list(pieces(reader, topic, account))
    assert {row.key: row.json for piece in cut for row in piece.rows} == whole
    for piece in cut:
        size = sum(len(row.json) + 1 for row in piece.rows)
        changes = {(row.partition, row.offset) for row in piece.rows}
        assert size <= 2_000 or len(changes) == 1  # what changed at once stays together


def test_a_live_ask_is_quiet_where_nothing_changed(reader: Reader) -> None:
    for topic in SOURCES:
        *_, last = pieces(reader, topic, "A1")
        (piece,) = reader.read([Ask(topic, "A1", last.position, is_live=True)]).pieces
        assert piece is None


def test_asks_are_answered_together(reader: Reader) -> None:
    asks = [Ask(topic, name, None) for topic in SOURCES for name in (None, *ACCOUNTS)]
    alone = [reader.read([ask]).pieces[0] for ask in asks]
    assert list(reader.read(asks).pieces) == alone


def test_rows_of_the_feeds_tables_are_never_deleted(parts: Parts) -> None:
    """Then what changed since a position is all that a resume needs."""
    seen = 0
    for projection in PROJECTIONS:
        fed = [table for table in projection.tables if table in FED_TABLES]
        for account in ACCOUNTS if fed else ():
            fold = projection.make(fresh=True)
            keys: dict[str, set[Any]] = {table.name: set() for table in fed}
            for one in stream_events(parts.log, projection.topic, account, 2**62):
                if type(one.event) in projection.handles:
                    fold.apply([one])
                    for table in fed:
                        now = {
                            tuple(getattr(row, name) for name in table.key)
                            for row in fold.rows(table)
                        }
                        assert keys[table.name] <= now
                        keys[table.name] = now
                        seen += len(now)
    assert seen


def test_who_follows_reads_nothing_twice_for_what_does_not_count(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that has such records is read from its beginning only for what is before them."""
    log, partition = parts.log, partition_of(ACCOUNTS[0], parts.log.partitions)
    head, read = log.heads("events")[partition], log.read
    offsets: list[int] = []

    def counted(topic: Topic, place: int, offset: int, limit: int) -> Sequence[Record]:
        offsets.append(offset)
        return read(topic, place, offset, limit)

    monkeypatch.setattr(log, "read", counted)
    monkeypatch.setattr(voids, "_KNOWN", WeakKeyDictionary())
    found = voids.voids_between(log, partition, 0, head, 3)
    assert sum(offset in found for offset in range(head)) == 3
    assert offsets[0] == 0
    offsets.clear()
    assert voids.voids_between(log, partition, 0, head, 0) == frozenset()
    assert voids.voids_between(log, partition, head, head + 9, 3) == frozenset()
    assert offsets == []
