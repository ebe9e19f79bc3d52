"""Connections and locks on a real server."""

import logging
import os
import pickle
import signal
from pathlib import Path

import psycopg
import pytest

from infra.embedded import attach
from infra.errors import ServerUnavailable, SettingsError
from infra.postgres import (
    Connection,
    advisory_lock,
    close,
    connect,
    lock_key,
    refuse_lossy,
    reporting_outage,
    warn_of_lossy,
)
from tests.beside import beside
from tests.waiting import until


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


def test_what_is_committed_is_durable_whatever_the_server_is_told(
    dsn: str, connection: Connection
) -> None:
    name = value(connection, "SELECT current_database()")
    connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    try:
        with connect(dsn) as opened:
            assert value(opened, "SHOW synchronous_commit") == "on"
    finally:
        connection.execute(f"ALTER DATABASE {name} RESET synchronous_commit".encode())


def turn_off(connection: Connection, *names: str) -> None:
    # A restart with other settings would be one for all tests: names of the session go first.
    listed = ", ".join(f"'{name}'" for name in names)
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW pg_settings AS SELECT name,"
        f" CASE WHEN name IN ({listed}) THEN 'off' ELSE setting END AS setting"
        " FROM pg_catalog.pg_settings".encode()
    )


def test_a_server_that_may_lose_what_it_committed_is_refused_for_the_log(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "infra.postgres")
    refuse_lossy(connection, "a first log")
    assert caplog.messages == []
    turn_off(connection, "full_page_writes")
    for _ in range(2):
        refuse_lossy(connection, "a second log")
    advice = "right only where the file system never writes half a page"
    assert caplog.messages == [f"full_page_writes of a second log is off: {advice}"]
    turn_off(connection, "full_page_writes", "fsync")
    with pytest.raises(SettingsError, match="fsync of a third log is 'off'"):
        refuse_lossy(connection, "a third log")


def test_read_models_on_a_server_that_may_lose_them_are_a_warning(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "infra.postgres")
    turn_off(connection, "full_page_writes", "fsync")
    warn_of_lossy(connection, "a store")
    advice = "after a crash of it run `daybook rebuild`, and put back notes kept there"
    assert caplog.messages == [
        f"fsync of a store is off: {advice}",
        f"full_page_writes of a store is off: {advice}",
    ]


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


def test_one_holder_at_a_time(dsn: str, connection: Connection) -> None:
    with connect(dsn) as other, advisory_lock(connection, "projecting"):
        assert not is_free(other, "projecting")
        assert is_free(other, "something else")
    with connect(dsn) as other:
        assert is_free(other, "projecting")


def is_free(connection: Connection, name: str) -> bool:
    """Tell whether a lock can be had; whoever asks has it until the connection ends."""
    return bool(value(connection, f"SELECT pg_try_advisory_lock({lock_key(name)})"))


def test_a_lock_is_given_back_after_an_error_in_a_transaction(
    dsn: str, connection: Connection
) -> None:
    with (
        pytest.raises(psycopg.errors.DivisionByZero),
        advisory_lock(connection, "projecting"),
        connection.transaction(),
    ):
        connection.execute("SELECT 1 / 0")
    with connect(dsn) as other:
        assert is_free(other, "projecting")


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

    def ask() -> None:
        answers.append(connection.execute("SELECT pg_sleep(0.5)::text || 'slept'").fetchone())

    with beside(ask):
        until(connection.lock.locked)
        close(connection, None)
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

    with beside(ask):
        until(connection.lock.locked)
        close(connection, patience_s=0.2)
    assert len(refusals) == 1
    assert connection.closed
