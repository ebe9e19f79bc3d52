"""What must hold in the end: of the log, of every answer, of the read models and of their copy."""

import time
from collections.abc import Iterator

from msgspec import Struct

from domain.commands import Topic, topic_of
from domain.events import CommandRefused, TransferReceived, TransferReturned, TransferSent
from projections.registry import PROJECTIONS
from schemas.codec import record_hash
from schemas.envelope import Recorded
from streams.hot_copy import MARK_TTL_S, HotCopy, generations, stored_positions
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, LogHalted
from streams.read_models import ReadModels
from streams.reader import fresh_state, read_valid
from streams.verifying import verify
from streams.working.waiting import wait_for
from tests.chaos.load import ACCOUNTS, Looker, Told

_CHUNK = 5000
_SETTINGS = ("AccountOpened", "AccountChanged")
_SHOWN = 20
_LOOK_S = 0.2
Place = tuple[Topic, int, int]


class Books(Struct):
    """The log as a fresh reader finds it: what counts, by place and by command, and the rest."""

    at: dict[Place, Recorded]
    by_command: dict[tuple[Topic, str, str], list[Recorded]]
    voids: int
    terms: int
    halted: list[str]


def read_books(log: KafkaLog) -> Books:
    """Read the whole log."""
    books = Books({}, {}, 0, 0, [])
    for topic in TOPICS:
        for partition in range(log.partitions):
            state = fresh_state(log, topic, partition)
            try:
                while not (batch := read_valid(log, topic, partition, state, _CHUNK)).is_empty:
                    books.voids += len(batch.voids)
                    for one in batch.records:
                        _file(books, topic, one)
            except LogHalted as halted:
                books.halted.append(str(halted))
            books.terms += state.term
    return books


def _file(books: Books, topic: Topic, one: Recorded) -> None:
    key = one.envelope.stream
    if key is not None:
        books.at[topic, one.partition, one.offset] = one
        named = topic, key, one.envelope.command_id
        books.by_command.setdefault(named, []).append(one)


def log_violations(books: Books, told: list[Told]) -> Iterator[str]:
    """Yield what is wrong with the log, or with an answer."""
    yield from (f"halted: {reason}" for reason in books.halted)
    for named, records in books.by_command.items():
        if len(records) > 1:
            yield f"{named} was applied at {[one.offset for one in records]}"
    for one in told:
        fault = _fault(books, one)
        if fault is not None:
            answer = one.answer
            yield f"{answer.command_id} answered {answer.status} {answer.position}: {fault}"


def _fault(books: Books, told: Told) -> str | None:
    answer, request = told.answer, told.request
    topic = topic_of(request.command)
    records = books.by_command.get((topic, request.key, request.command_id), [])
    mine = [one for one in records if one.envelope.command_hash == told.content_hash]
    if answer.status == "conflict":
        return None if records and not mine else "and no other content has its id"
    if answer.status == "lacking":
        return None
    if answer.offset is None:
        return "and it has no position"
    found = books.at.get((topic, answer.partition, answer.offset))
    if found is None or found.envelope.stream != request.key:
        return "and no such record counts"
    if (answer.status == "refused") != isinstance(found.event, CommandRefused):
        return f"and a {found.envelope.type} is there"
    if answer.event is not None and record_hash(answer.event) != found.hash:
        return "and the record there is not the one it was told"
    if answer.status == "duplicate" and not answer.replayed:
        same = found.envelope.command_hash == told.content_hash
        return None if same or found.envelope.type in _SETTINGS else "and another fact is there"
    return None if mine == [found] else "and its own record is elsewhere"


def lacking_violations(books: Books, told: list[Told]) -> Iterator[str]:
    """Yield commands that were refused without a record, never accepted later, and are recorded."""
    decided = {
        (one.request.key, one.request.command_id, one.content_hash)
        for one in told
        if one.answer.status != "lacking"
    }
    for one in told:
        named = one.request.key, one.request.command_id, one.content_hash
        if one.answer.status == "lacking" and named not in decided:
            topic = topic_of(one.request.command)
            for record in books.by_command.get((topic, *named[:2]), []):
                if record.envelope.command_hash == one.content_hash:
                    yield f"{named[1]} was said to lack something, and is at {record.offset}"


def transfers_open(books: Books) -> list[str]:
    """Return the transfers that were sent and have not ended, or ended more than once."""
    ends: dict[tuple[str, str], int] = {}
    sent: set[tuple[str, str]] = set()
    for one in books.at.values():
        account = one.envelope.stream or ""
        match one.event:
            case TransferSent(transfer_id=name):
                sent.add((account, name))
            case TransferReceived(transfer_id=name, from_account=sender):
                ends[sender, name] = ends.get((sender, name), 0) + 1
            case TransferReturned(transfer_id=name):
                ends[account, name] = ends.get((account, name), 0) + 1
            case _:
                pass
    wrong = [which for which in sent | ends.keys() if which not in sent or ends.get(which) != 1]
    return [
        f"transfer {name} of {account} ended {ends.get((account, name), 0)} times"
        for account, name in sorted(wrong)
    ]


class Models(Struct):
    """What was found wrong with the read models and their copy, and how many accounts it has."""

    violations: list[str]
    copied: int


def look_at_models(
    log: KafkaLog, dsn: str, cache_url: str, looker: Looker, patience_s: float
) -> Models:
    """Compare the read models with a fresh fold, and their copy in Redis with them.

    The looker brings accounts into the copy until then, and is ended.
    """
    models = ReadModels(dsn, log.place.schema, log.log_id, PROJECTIONS)
    try:
        heads = {topic: log.heads(topic) for topic in TOPICS}
        behind = wait_for(models, heads, patience_s)
        found = Models([f"{topic}/{number} is not projected" for topic, number in behind], 0)
        verdict = verify(log, models)
        found.violations += [f"{one.where}: {one.what}" for one in verdict.differences]
        # Where a writer died, a copy may be old for as long as its mark lasts.
        time.sleep(MARK_TTL_S)
        _look_at_copy(log, models, cache_url, looker, patience_s, found)
        return found
    finally:
        models.close()


def _look_at_copy(
    log: KafkaLog,
    models: ReadModels,
    cache_url: str,
    looker: Looker,
    patience_s: float,
    found: Models,
) -> None:
    copy = HotCopy.open(
        cache_url, log.place.namespace, generations(log.log_id, PROJECTIONS), log.partitions
    )
    try:
        deadline = time.monotonic() + patience_s
        while not any(map(copy.positions, ACCOUNTS)) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        looker.stop()
        looker.join(patience_s)
        if looker.is_alive():
            found.violations.append("the looker did not end")
        found.violations += looker.faults
        for account in ACCOUNTS:
            copied = copy.positions(account)
            if copied is None:
                continue
            found.copied += 1
            stored = stored_positions(models.connection, account, log.partitions)
            if copied.rows != stored.rows:
                found.violations.append(f"Redis has other positions of {account} than Postgres")
        if not found.copied:
            found.violations.append("Redis has no positions: nothing was compared")
    finally:
        copy.close()


def shown(violations: list[str]) -> list[str]:
    """Return the first of many, and how many more there are."""
    more = len(violations) - _SHOWN
    return violations[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
