"""However commands are cut into batches, and whoever takes them, the streams are the same."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.commands import Request
from infra import postgres
from streams import batch_size, ledger
from streams.answers import Answer
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from tests.streams.books import index_rows, rebuild_index, streams_said
from tests.streams.requests import cash, deal, define, open_account, price, send

_NUMBERS = itertools.count(1)
_ACCOUNTS = st.sampled_from(["A", "B", "C"])
_SMALL = st.integers(0, 3).map(str)
_IDS = st.integers(0, 12).map(lambda number: f"c{number}")


@st.composite
def any_request(draw: st.DrawFn) -> Request:
    command_id, account = draw(_IDS), draw(_ACCOUNTS)
    name, amount = draw(_SMALL), draw(st.sampled_from(["1", "1.0", "2"]))
    match draw(st.sampled_from(["open", "cash", "deal", "define", "price", "send"])):
        case "open":
            return open_account(account, command_id)
        case "cash":
            return cash(command_id, account, name, amount)
        case "deal":
            return deal(command_id, account, name, amount)
        case "define":
            return define("AAPL")
        case "price":
            return price(command_id, "AAPL", amount)
        case _:
            return send(command_id, account, name, "B")


@contextmanager
def two_ledgers(dsn: str) -> Iterator[tuple[Ledger, Ledger]]:
    schema = f"property_{next(_NUMBERS)}"
    logs = [PostgresLog.open(dsn, schema, partitions=2) for _ in range(2)]
    ledgers = [Ledger(log, memory_size=4) for log in logs]
    try:
        yield ledgers[0], ledgers[1]
    finally:
        for opened in (*ledgers, *logs):
            opened.close()
        connection = postgres.connect(dsn)
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
        connection.close()


def essence(answer: Answer) -> tuple[object, ...]:
    return (
        answer.status,
        answer.command_id,
        answer.partition,
        answer.seq,
        answer.event_type,
        answer.flags,
        answer.reason,
        answer.replayed,
    )


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    asked=st.lists(any_request(), min_size=1, max_size=40),
    cuts=st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=40, max_size=40),
)
def test_cuts_and_writers_make_no_difference(
    dsn: str, asked: list[Request], cuts: list[tuple[int, bool]]
) -> None:
    with two_ledgers(dsn) as (first, _):
        one_by_one = [essence(answer) for one in asked for answer in first.submit([one])]
        expected = streams_said(first.log)
    with two_ledgers(dsn) as ledgers:
        answers: list[Answer] = []
        for size, second in cuts:
            answers += ledgers[second].submit(asked[len(answers) : len(answers) + size])
        assert [essence(answer) for answer in answers] == one_by_one
        assert streams_said(ledgers[0].log) == expected
        _rebuilt_index_is_the_same(ledgers[1].log)


def _rebuilt_index_is_the_same(log: PostgresLog) -> None:
    connection = log.connect()
    before = index_rows(connection)
    rebuild_index(log)
    after = index_rows(connection)
    connection.close()
    for table in ("decider_entities", "decider_streams"):
        assert after[table] == before[table]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(asked=st.lists(any_request(), min_size=1, max_size=60), size=st.integers(1, 9))
def test_what_is_foreseen_makes_no_difference(dsn: str, asked: list[Request], size: int) -> None:
    with two_ledgers(dsn) as (first, _):
        one_by_one = [essence(answer) for one in asked for answer in first.submit([one])]
        expected = streams_said(first.log)
    with two_ledgers(dsn) as (first, second), in_bulk(size):
        half = len(asked) // 2
        answers = [*first.submit(asked[:half]), *second.submit(asked[half:])]
        assert [essence(answer) for answer in answers] == one_by_one
        assert streams_said(first.log) == expected
        _rebuilt_index_is_the_same(first.log)


@contextmanager
def in_bulk(size: int) -> Iterator[None]:
    """Have whatever is submitted foreseen, in batches of a size."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FIRST_BATCH", "SMALLEST_BATCH", "LARGEST_BATCH"):
            patch.setattr(batch_size, name, size)
        patch.setattr(ledger, "BULK", 1)
        yield
