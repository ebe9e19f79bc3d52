"""Connections to PostgreSQL by psycopg 3: opened alike everywhere, their failures one error.

A connection commits each statement by itself, and a transaction is always a visible
`with connection.transaction()`, so that none stays open because somebody read something.
"""

import contextlib
import functools
import hashlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from infra.errors import ServerUnavailable, SettingsError
from infra.settings import redacted

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT_S: Final = 10
_CLOSING_S: Final = 5.0
_SESSION_OPTIONS: Final = (
    "-c timezone=UTC",
    r"-c default_transaction_isolation=read\ committed",
    "-c synchronous_commit=on",
)
_LOSSLESS: Final = ("fsync", "full_page_writes")
"""Settings of the whole server without which a crash may lose or tear what was committed.

The second is rightly off where a file system never writes half a page, as ZFS.
"""
_AFTER_CRASH: Final = "after a crash of it run `daybook rebuild`, and put back notes kept there"
_log = logging.getLogger(__name__)
_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Class 08 is a broken connection; these are a server going down, crashed, or coming up.
_OUTAGE_STATES: Final = frozenset({"57P01", "57P02", "57P03", "57P05"})


def connect(
    dsn: str,
    *,
    schema: str | None = None,
    read_only: bool = False,
    application_name: str = "daybook",
    part: str = "PostgreSQL",
) -> Connection:
    """Open a connection in autocommit mode, in UTC, with `schema` alone on its search path.

    Transactions are READ COMMITTED, whatever the server's default: after waiting for a lock,
    what its last holder committed is seen. What is committed is durable, also where the server
    would answer before it is. With `read_only` the server refuses to write. Other
    options in `dsn` stay in force. `part` is what the server is called in an error. Raises
    ServerUnavailable when no session can be had, SettingsError for a `dsn` or `schema` that
    cannot be understood.
    """
    try:
        told = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise SettingsError(part, redacted(dsn), f"a connection string: {error}") from error
    options = [str(told.get("options") or ""), *_SESSION_OPTIONS]
    if schema is not None:
        options.append(f"-c search_path={checked_schema(schema)}")
    if read_only:
        options.append("-c default_transaction_read_only=on")
    try:
        return psycopg.connect(
            dsn,
            autocommit=True,
            application_name=application_name,
            connect_timeout=told.get("connect_timeout") or CONNECT_TIMEOUT_S,
            options=" ".join(options).strip(),
        )
    except psycopg.OperationalError as error:
        raise _unavailable(part, error) from error


def refuse_lossy(connection: Connection, part: str) -> None:
    """Raise SettingsError where a server does not wait for its disk; warn where pages may tear."""
    for name in _lossy_settings(connection):
        if name == "fsync":
            expected = "on: a crash of the server may lose what was answered as recorded"
            raise SettingsError(f"{name} of {part}", "off", expected)
        _warn_of_lossy(name, part, "right only where the file system never writes half a page")


def warn_of_lossy(connection: Connection, part: str) -> None:
    """Warn where a server is set up so that a crash may lose what it committed."""
    for name in _lossy_settings(connection):
        _warn_of_lossy(name, part, _AFTER_CRASH)


@functools.cache
def _warn_of_lossy(name: str, part: str, advice: str) -> None:
    """Warn once in a process, however often it connects."""
    _log.warning("%s of %s is off: %s", name, part, advice)


def _lossy_settings(connection: Connection) -> list[str]:
    found = connection.execute(
        "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off' ORDER BY name",
        (list(_LOSSLESS),),
    ).fetchall()
    return [name for (name,) in found]


def close(*connections: Connection | None, patience_s: float = _CLOSING_S) -> None:
    """Close connections that other threads may be using; a statement under way ends first.

    psycopg closes at once, and libpq frees what a thread in the middle of a statement still reads:
    the process would die. A statement that takes longer than `patience_s` is cut off, as if the
    server had gone.
    """
    for connection in connections:
        if connection is None or connection.closed:
            continue
        if not connection.lock.acquire(timeout=patience_s):
            with contextlib.suppress(OSError, psycopg.OperationalError):
                _cut_off(connection.fileno())
            connection.lock.acquire()
        try:
            connection.close()
        finally:
            connection.lock.release()


def _cut_off(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as wire:
        wire.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def sent_together(connection: Connection, *, isolation: str = "READ COMMITTED") -> Iterator[None]:
    """Make a transaction of a block, whose statements are sent without a wait for each answer.

    Only what asks for rows waits, for all that was sent until then. So what is wrong with a
    statement may be raised by a later one, or at the end of the block. COPY is not possible.
    Within another transaction nothing is sent together.
    """
    if connection.info.transaction_status != TransactionStatus.IDLE:
        with connection.transaction():
            yield
        return
    try:
        with connection.pipeline():
            connection.execute(f"BEGIN ISOLATION LEVEL {isolation}".encode(), prepare=False)
            yield
            connection.execute("COMMIT", prepare=False)
    except BaseException:
        # The server has gone back by itself where the connection is lost.
        if not connection.closed:
            connection.rollback()
        raise


@contextlib.contextmanager
def reporting_outage(part: str = "PostgreSQL") -> Iterator[None]:
    """Turn the loss of the server in the middle of work into ServerUnavailable.

    Other errors pass: a full disk or a serialization failure is no outage.
    """
    try:
        yield
    except psycopg.OperationalError as error:
        state = error.sqlstate
        if state is None or state.startswith("08") or state in _OUTAGE_STATES:
            raise _unavailable(part, error) from error
        raise


def _unavailable(part: str, error: psycopg.OperationalError) -> ServerUnavailable:
    reason = " ".join(str(error).split())
    if re.search(r"authentication|password|pg_hba|role .* does not exist", reason):
        hint = "check the user and the password in its URL"
    elif re.search(r'database ".*" does not exist', reason):
        hint = "create the database, or check its name in the URL"
    else:
        hint = "check that the server runs and that its URL is right"
    return ServerUnavailable(part, reason, hint)


def checked_schema(name: str) -> str:
    """Return the name of a schema that needs no quoting anywhere; else raise SettingsError."""
    if not _SCHEMA_NAME.fullmatch(name) or name.startswith("pg_"):
        expected = "1-63 lower case letters, digits and underscores, no digit or pg_ in front"
        raise SettingsError("schema", name, expected)
    return name


@contextlib.contextmanager
def advisory_lock(connection: Connection, name: str) -> Iterator[None]:
    """Hold the lock called `name` for a block, waiting for it as long as it takes.

    It belongs to the session: transactions inside come and go, and it ends with the connection,
    however that ends. Taken inside a transaction it could not be given back after an error, so
    that is refused with RuntimeError.
    """
    _require_idle(connection)
    connection.execute("SELECT pg_advisory_lock(%s)", (lock_key(name),))
    try:
        yield
    finally:
        _unlock(connection, name)


@contextlib.contextmanager
def shared_advisory_lock(connection: Connection, name: str) -> Iterator[None]:
    """Hold the lock called `name` together with others who share it, waiting for who does not."""
    _require_idle(connection)
    connection.execute("SELECT pg_advisory_lock_shared(%s)", (lock_key(name),))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock_shared(%s)", (lock_key(name),))


def lock_key(name: str) -> int:
    """Return the 64-bit key of a lock: the same for a name everywhere and for ever."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _require_idle(connection: Connection) -> None:
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise RuntimeError("an advisory lock is taken outside any transaction")


def _unlock(connection: Connection, name: str) -> None:
    # A session that is gone has given its locks back, and an error under way is not to be hidden.
    if not connection.closed:
        connection.execute("SELECT pg_advisory_unlock(%s)", (lock_key(name),))
