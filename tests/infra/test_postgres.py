"""Connections, bulk rows and locks on a real server."""

import math
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.embedded import attach
from infra.errors import ServerUnavailable, SettingsError
from infra.postgres import (
    Connection,
    advisory_lock,
    close,
    connect,
    copy_rows,
    lock_key,
    reporting_outage,
    try_advisory_lock,
)

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=18).filter(
    lambda value: len(value.as_tuple().digits) <= 38
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.none() | TEXTS,
        st.none() | st.binary(),
        st.none() | DECIMALS | st.integers(-(10**38), 10**38),
    )
)


def value(connection: Connection, query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_the_session_is_as_told(dsn: str, schema: str) -> None:
    with connect(dsn, schema=schema, application_name="books") as connection:
        assert value(connection, "SHOW search_path") == schema
        assert value(connection, "SHOW application_name") == "books"
        assert value(connection, "SHOW timezone") == "UTC"
        assert value(connection, "SHOW transaction_isolation") == "read committed"
        assert connection.autocommit


def test_options_in_the_url_stay_in_force(dsn: str) -> None:
    with connect(f"{dsn}&options=-c%20work_mem%3D7MB") as connection:
        assert value(connection, "SHOW work_mem") == "7MB"
        assert value(connection, "SHOW timezone") == "UTC"


def test_read_only_is_enforced_by_the_server(dsn: str, connection: Connection) -> None:
    connection.execute("CREATE TABLE numbers (number integer)")
    schema = str(value(connection, "SELECT current_schema()"))
    with connect(dsn, schema=schema, read_only=True) as reader:
        assert value(reader, "SELECT count(*) FROM numbers") == 0
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("INSERT INTO numbers VALUES (1)")


@pytest.mark.parametrize("name", ["", "Books", "1a", "a b", "a;", "pg_x", "a" * 64, "a,b"])
def test_a_schema_that_would_need_quoting_is_refused(dsn: str, name: str) -> None:
    with pytest.raises(SettingsError, match="lower case letters"):
        connect(dsn, schema=name)


def test_no_server_there(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="the read store is not available") as caught:
        connect(f"postgresql:///x?host={tmp_path}", part="the read store")
    assert (caught.value.part, "runs" in caught.value.hint) == ("the read store", True)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_no_such_database_or_user(dsn: str) -> None:
    with pytest.raises(ServerUnavailable) as caught:
        connect(dsn.replace("/postgres?", "/nothing?"))
    assert "create the database" in caught.value.hint
    with pytest.raises(ServerUnavailable) as caught:
        connect(dsn.replace("daybook@", "stranger:S3cret@"))
    assert "check the user" in caught.value.hint
    assert "S3cret" not in str(caught.value)


def test_a_url_that_cannot_be_understood() -> None:
    with pytest.raises(SettingsError, match="connection string") as caught:
        connect("postgresql://me:S3cret@host/db?nonsense=1")
    assert "S3cret" not in str(caught.value)


def test_the_loss_of_the_server_is_an_outage(tmp_path: Path) -> None:
    server = attach(tmp_path)
    with connect(server.dsn) as connection:
        pid = int((tmp_path / "postgres/data/postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        with pytest.raises(ServerUnavailable, match="the log"), reporting_outage("the log"):
            connection.execute("SELECT pg_sleep(60)")
    server.release()


def test_another_error_is_no_outage(connection: Connection) -> None:
    connection.execute("SET statement_timeout = 10")
    with pytest.raises(psycopg.errors.QueryCanceled), reporting_outage():
        connection.execute("SELECT pg_sleep(5)")


@pytest.mark.parametrize("types", [None, ("int8", "text", "bytea", "numeric")])
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=ROWS)
def test_rows_come_back_as_they_went(
    connection: Connection, types: tuple[str, ...] | None, rows: list[tuple[object, ...]]
) -> None:
    connection.execute('CREATE TABLE IF NOT EXISTS "a""b" (i bigint, t text, b bytea, n numeric)')
    connection.execute('TRUNCATE "a""b"')
    assert copy_rows(connection, 'a"b', ("i", "t", "b", "n"), rows, types=types) == len(rows)
    assert connection.execute('SELECT * FROM "a""b"').fetchall() == rows


def test_a_failing_row_leaves_nothing(connection: Connection) -> None:
    connection.execute("CREATE TABLE numbers (number integer PRIMARY KEY)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        copy_rows(connection, "numbers", ["number"], [(1,), (2,), (1,)])
    with pytest.raises(ZeroDivisionError):
        copy_rows(connection, "numbers", ["number"], ((1 // (3 - n),) for n in range(5)))
    assert value(connection, "SELECT count(*) FROM numbers") == 0


def test_no_not_a_number_is_lost_on_the_way(connection: Connection) -> None:
    connection.execute("CREATE TABLE numbers (number numeric)")
    copy_rows(connection, "numbers", ["number"], [(Decimal("NaN"),)], types=["numeric"])
    assert math.isnan(Decimal(str(value(connection, "SELECT number FROM numbers"))))


def test_one_holder_at_a_time(dsn: str, connection: Connection) -> None:
    with connect(dsn) as other, advisory_lock(connection, "projecting"):
        with try_advisory_lock(other, "projecting") as held:
            assert not held
        with try_advisory_lock(other, "something else") as held:
            assert held
    with connect(dsn) as other, try_advisory_lock(other, "projecting") as held:
        assert held


def test_a_lock_is_given_back_after_an_error_in_a_transaction(
    dsn: str, connection: Connection
) -> None:
    with (
        pytest.raises(psycopg.errors.DivisionByZero),
        advisory_lock(connection, "projecting"),
        connection.transaction(),
    ):
        connection.execute("SELECT 1 / 0")
    with connect(dsn) as other, try_advisory_lock(other, "projecting") as held:
        assert held


def test_a_lock_goes_with_its_connection(dsn: str) -> None:
    with connect(dsn) as first, advisory_lock(first, "projecting"):
        first.close()
        with connect(dsn) as second, advisory_lock(second, "projecting"):
            assert not second.closed


def test_no_lock_inside_a_transaction(connection: Connection) -> None:
    with (
        connection.transaction(),
        pytest.raises(RuntimeError, match="outside any transaction"),
        advisory_lock(connection, "projecting"),
    ):
        pass


def test_keys_are_fixed_for_ever() -> None:
    assert lock_key("projecting") == -388370270916011802


def test_closing_waits_for_the_statement_of_another_thread(dsn: str) -> None:
    connection, answers = connect(dsn), []
    asking = threading.Thread(
        target=lambda: answers.append(
            connection.execute("SELECT pg_sleep(0.5)::text || 'slept'").fetchone()
        )
    )
    asking.start()
    until(connection.lock.locked)
    close(connection, None)
    asking.join()
    assert answers == [("slept",)]
    assert connection.closed
    close(connection)


def test_closing_cuts_off_a_statement_that_does_not_end(dsn: str) -> None:
    connection, refusals = connect(dsn), []

    def ask() -> None:
        try:
            connection.execute("SELECT pg_sleep(600)")
        except psycopg.OperationalError as error:
            refusals.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(connection.lock.locked)
    close(connection, patience_s=0.2)
    asking.join()
    assert len(refusals) == 1
    assert connection.closed


def until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.001)
