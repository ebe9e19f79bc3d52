"""The Postgres log: the contract of every log, and what only a table can get wrong."""

import contextlib
import hashlib
import threading
import time
from functools import partial

import msgspec
import psycopg
import pytest
from msgspec import Struct

from infra import postgres
from infra.errors import ServerUnavailable
from streams.ledger import Ledger
from streams.log import LogError
from streams.postgres_log import PostgresLog, append_locked, lock
from tests.beside import beside
from tests.streams.log_contract import LogContract, draft, numbers
from tests.streams.requests import open_account


class PostgresHome(Struct, frozen=True):
    """A schema of a server."""

    dsn: str
    schema: str

    def open(self) -> PostgresLog:
        return PostgresLog.open(self.dsn, self.schema)


class TestPostgresLog(LogContract):
    @pytest.fixture
    def log_home(self, dsn: str, schema: str) -> PostgresHome:
        return PostgresHome(dsn, schema)


def test_no_reader_sees_an_offset_before_the_one_below_it(log: PostgresLog) -> None:
    """A transaction held open keeps the next writer from getting the offset after it."""
    landed = threading.Event()

    def write_behind() -> None:
        log.append("events", 6, [draft("B", 2)])
        landed.set()

    with (
        contextlib.closing(log.connect()) as holder,
        contextlib.ExitStack() as writing,  # left after the transaction that the writer waits for
        holder.transaction(),
    ):
        tail = lock(holder, [("events", 6)])["events", 6]
        append_locked(holder, "events", 6, tail, [draft("A", 1)])
        writing.enter_context(beside(write_behind))
        _wait_until_someone_waits(log)
        assert not landed.is_set()
        assert log.heads("events")[6] == 1
        assert [record.offset for record in log.read("events", 6, 0, 10)] == [0]
    assert numbers(log.read("events", 6, 1, 10)) == [("A", 1), ("B", 2)]


def test_a_transaction_rolled_back_gives_its_offsets_back(log: PostgresLog) -> None:
    connection = log.connect()
    with connection.transaction(force_rollback=True):
        tail = lock(connection, [("events", 6)])["events", 6]
        append_locked(connection, "events", 6, tail, [draft("A", 1)])
    connection.close()
    assert log.append("events", 6, [draft("B", 2)]) == 1
    assert numbers(log.read("events", 6, 0, 10)) == [("B", 2)]


def test_locks_taken_in_any_order_never_deadlock(log: PostgresLog) -> None:
    places = [("events", 1), ("events", 2), ("reference", 3)]

    def write(order: list[tuple[str, int]]) -> None:
        connection = log.connect()
        with contextlib.closing(connection):
            for _ in range(50):
                with connection.transaction():
                    tails = lock(connection, order)
                    for topic, partition in order:
                        tail = tails[topic, partition]
                        append_locked(connection, topic, partition, tail, [draft("A", 1)])

    with beside(*(partial(write, order) for order in (places, places[::-1]))):
        pass
    assert log.heads("events")[1:3] == [101, 101]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log_records SET value = ''",
        "DELETE FROM log_records",
        "TRUNCATE log_records",
    ],
)
def test_records_cannot_be_changed_by_the_way(log: PostgresLog, statement: str) -> None:
    connection = log.connect()
    with pytest.raises(psycopg.errors.RestrictViolation, match="never changed"):
        connection.execute(statement.encode())
    connection.close()
    assert log.heads("events") == [1] * 16
    assert len(log.read("events", 0, 0, 10)) == 1


@pytest.mark.parametrize(
    ("assignment", "column"),
    [
        ("value = overlay(value placing 'X' from 40)", "hash"),
        ("hash = sha256('other')", "hash"),
        ("key = 'other'", "key"),
        ("recorded_ns = recorded_ns + 1", "recorded_ns"),
        ("command_ref = sha256('other')", "command_ref"),
    ],
)
def test_what_a_person_changes_by_hand_is_found(
    log: PostgresLog, assignment: str, column: str
) -> None:
    assert [kept.altered() for kept in log.read_kept("events", 0, 0, 10)] == [None]
    connection = log.connect()
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        statement = f"UPDATE log_records SET {assignment} WHERE topic = 0 AND partition = 0"
        connection.execute(statement.encode())
    connection.close()
    (kept,) = log.read_kept("events", 0, 0, 10)
    reason = kept.altered()
    assert reason is not None
    assert reason.startswith(column)


def test_a_command_that_is_not_to_be_found_again_is_missed(ledger: Ledger) -> None:
    ledger.submit([open_account("A1")])
    place = ledger.log.heads("events").index(2)
    (kept,) = ledger.log.read_kept("events", place, 1, 1)
    assert kept.altered() is None
    unanswered = msgspec.structs.replace(kept, command_ref=None).altered()
    assert unanswered == "command_ref is not that of the value"


def test_the_stored_hash_is_that_of_the_value(log: PostgresLog) -> None:
    log.append("events", 0, [draft("A", 1)])
    kept = log.read_kept("events", 0, 1, 1)[0]
    assert kept.hash == hashlib.sha256(kept.record.value).digest()


def test_another_number_of_partitions_is_refused(dsn: str, schema: str) -> None:
    log = PostgresLog.open(dsn, schema, partitions=4)
    assert log.heads("events") == [1] * 4
    log.close()
    with pytest.raises(LogError, match="4 partitions, not 16"):
        PostgresLog.open(dsn, schema, partitions=16)
    again = PostgresLog.open(dsn, schema)
    assert again.partitions == 4
    again.close()


def test_a_lost_connection_is_one_error_and_then_found_again(dsn: str, log: PostgresLog) -> None:
    log.heads("events")
    other = postgres.connect(dsn)
    other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    other.close()
    with pytest.raises(ServerUnavailable):
        log.heads("events")
    assert log.heads("events") == [1] * 16


def _wait_until_someone_waits(log: PostgresLog) -> None:
    connection = log.connect()
    deadline = time.monotonic() + 120
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while connection.execute(waiting).fetchone() == (0,) and time.monotonic() < deadline:
        time.sleep(0.005)
    connection.close()


def test_a_log_closed_while_others_read_it_gives_them_records_or_says_that_it_is_closed(
    log: PostgresLog,
) -> None:
    """libpq's memory is not freed under a reader: that answered nonsense, or ended the process."""
    log.append("events", 6, [draft("A", 1)])
    over, answers = threading.Event(), list[object]()

    def read_on() -> None:
        while not over.is_set():
            try:
                answers.append(numbers(log.read("events", 6, 0, 10)))
            except ServerUnavailable as error:
                answers.append(error.reason)

    with beside(read_on, read_on, read_on, over=over):
        for _ in range(100):
            log.read("events", 6, 0, 10)
            log.close()
    log.close()
    assert [("A", 1)] in answers
    assert all(answer in ([("A", 1)], "the connection is closed") for answer in answers)
