"""What was changed by hand in the database is found, and its first difference named."""

from collections.abc import Iterator

import pytest
from psycopg import sql

from infra.postgres import Connection
from projections.registry import PROJECTIONS
from projections.rows import CHANGED_OFFSET, Table
from schemas.partitioning import partition_of
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import ReadModels
from streams.record_rows import TOPIC_CODES
from streams.verifying import verify
from tests.streams.sample_book import sample_requests

PARTITIONS = 2
TABLES = [table for projection in PROJECTIONS for table in projection.tables]


@pytest.fixture
def log(dsn: str, schema: str) -> Iterator[PostgresLog]:
    """A log of two partitions with a book in it."""
    opened = PostgresLog.open(dsn, schema, partitions=PARTITIONS)
    ledger = Ledger(opened)
    ledger.submit(sample_requests(120))
    ledger.close()
    yield opened
    opened.close()


@pytest.fixture
def models(dsn: str, schema: str, log: PostgresLog) -> Iterator[ReadModels]:
    """The read models of that book, at its head."""
    opened = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    Projector(log, opened).catch_up()
    yield opened
    opened.close()


@pytest.fixture
def by_hand(log: PostgresLog) -> Iterator[Connection]:
    """A connection past the rules that keep records as they are."""
    connection = log.connect()
    connection.execute("SET session_replication_role = replica")
    yield connection
    connection.close()


def test_a_book_that_nobody_touched_is_clean(log: PostgresLog, models: ReadModels) -> None:
    seen: list[int] = []
    verdict = verify(log, models, seen.append)
    assert verdict.is_clean
    heads = sum(sum(log.heads(topic)) for topic in TOPIC_CODES)
    assert (verdict.records, sum(seen), verdict.voids) == (heads, heads, 0)
    assert verdict.streams == 8
    assert verdict.rows == sum(
        models.connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))
        ).fetchone()[0]
        for table in TABLES
    )


def test_what_was_recorded_since_is_no_difference(log: PostgresLog, models: ReadModels) -> None:
    ledger = Ledger(log)
    ledger.submit(sample_requests(150))
    ledger.close()
    verdict = verify(log, models)
    assert verdict.is_clean
    assert verdict.records == sum(sum(log.heads(topic)) for topic in TOPIC_CODES)


CHANGES = (
    "value = set_byte(value, length(value) / 2, get_byte(value, length(value) / 2) # 1)",
    "hash = set_byte(hash, 31, get_byte(hash, 31) # 1)",
    "key = 'other'",
    "recorded_ns = recorded_ns + 1",
)


@pytest.mark.parametrize("topic", list(TOPIC_CODES))
def test_one_byte_of_a_record_is_named(
    log: PostgresLog, models: ReadModels, by_hand: Connection, topic: str
) -> None:
    partition = partition_of("AAPL" if topic != "events" else "A1", PARTITIONS)
    head = log.heads(topic)[partition]
    by_hand.execute("CREATE TABLE kept_records AS SELECT * FROM log_records")
    for offset in (0, head // 2, head - 1):
        for change in CHANGES:
            place = (
                f'topic = {TOPIC_CODES[topic]} AND partition = {partition} AND "offset" = {offset}'
            )
            by_hand.execute(f"UPDATE log_records SET {change} WHERE {place}".encode())
            (found,) = verify(log, models).differences
            assert found.where == f"{topic}/{partition}:{offset}"
            by_hand.execute(f"DELETE FROM log_records WHERE {place}".encode())
            restore = f"INSERT INTO log_records SELECT * FROM kept_records WHERE {place}"
            by_hand.execute(restore.encode())
    assert verify(log, models).is_clean


def test_a_value_changed_with_its_hash_breaks_the_chain_or_the_books(
    log: PostgresLog, models: ReadModels, by_hand: Connection
) -> None:
    partition = partition_of("A1", PARTITIONS)
    offset = log.heads("events")[partition] - 1
    for changed in (offset, offset // 2):
        by_hand.execute(
            "UPDATE log_records SET"
            " value = convert_to(replace(convert_from(value, 'UTF8'), '\"actor\":\"local\"',"
            " '\"actor\":\"mallo\"'), 'UTF8')"
            ' WHERE topic = 0 AND partition = %s AND "offset" = %s',
            (partition, changed),
        )
        by_hand.execute(
            "UPDATE log_records SET hash = sha256(value)"
            ' WHERE topic = 0 AND partition = %s AND "offset" = %s',
            (partition, changed),
        )
        first = verify(log, models).differences[0]
        if changed == offset:
            assert first.where.startswith("projection_heads accounts/")
        else:
            assert "the chain of" in first.what
            assert int(first.where.rpartition(":")[2]) > changed


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_tail_that_is_gone_is_named(
    log: PostgresLog, models: ReadModels, by_hand: Connection, count: int, is_hidden: bool
) -> None:
    partition = partition_of("A1", PARTITIONS)
    head = log.heads("events")[partition]
    by_hand.execute(
        'DELETE FROM log_records WHERE topic = 0 AND partition = %s AND "offset" >= %s',
        (partition, head - count),
    )
    if is_hidden:
        by_hand.execute(
            "UPDATE log_partitions SET next_offset = %s WHERE topic = 0 AND partition = %s",
            (head - count, partition),
        )
    first = verify(log, models).differences[0]
    if is_hidden:
        assert first.where == f"accounts events/{partition}:{head}"
        assert first.what == f"projected beyond the log, which ends at {head - count}"
    else:
        assert first.where == f"events/{partition}:{head - count}"
        assert "missing" in first.what


def test_a_record_that_is_gone_from_the_middle_is_named(
    log: PostgresLog, models: ReadModels, by_hand: Connection
) -> None:
    by_hand.execute('DELETE FROM log_records WHERE topic = 0 AND partition = 0 AND "offset" = 9')
    (found,) = verify(log, models).differences
    assert (found.where, found.what) == ("events/0:10", "offset 9 was expected next")


def test_a_head_that_is_too_low_is_named(
    log: PostgresLog, models: ReadModels, by_hand: Connection
) -> None:
    by_hand.execute(
        "UPDATE log_partitions SET next_offset = next_offset - 1 WHERE topic = 0 AND partition = 0"
    )
    head = log.heads("events")[0]
    assert verify(log, models).differences[0].where == f"events/0:{head}"


def _columns(table: Table) -> list[str]:
    return [name for name in table.columns if name not in (*table.key, CHANGED_OFFSET)]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_row_changed_by_hand_is_named(models: ReadModels, log: PostgresLog, table: Table) -> None:
    models.connection.execute(f"CREATE TABLE kept AS SELECT * FROM {table.name}".encode())
    for name in _columns(table):
        kind = models.connection.execute(
            "SELECT data_type FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = %s AND column_name = %s",
            (models.schema, table.name, name),
        ).fetchone()[0]
        other = {
            "numeric": f"coalesce({name}, 0) + 0.01",
            "bigint": f"{name} + 1",
            "integer": f"{name} + 1",
            "boolean": f"NOT {name}",
            "jsonb": """'{"a": [1]}'""",
            "ARRAY": f"{name} || '{{x}}'::text[]",
        }.get(kind, f"coalesce({name}, '') || 'x'")
        column = f'"{name}"'
        statement = (
            f"UPDATE {table.name} SET {column} = {other.replace(name, column)}"
            f" WHERE ctid = (SELECT max(ctid) FROM {table.name})"
            f" RETURNING {', '.join(table.key)}"
        )
        key = models.connection.execute(statement.encode()).fetchone()
        (found,) = verify(log, models).differences
        assert found.where == f"{table.name} {'/'.join(map(str, key))}"
        assert found.what.startswith(f"{name} is stored as ")
        models.connection.execute(f"TRUNCATE {table.name}".encode())
        models.connection.execute(f"INSERT INTO {table.name} SELECT * FROM kept".encode())
    assert verify(log, models).is_clean


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_row_gone_or_added_by_hand_is_named(
    models: ReadModels, log: PostgresLog, table: Table
) -> None:
    execute = models.connection.execute
    row = execute(
        f"DELETE FROM {table.name} WHERE ctid = (SELECT min(ctid) FROM {table.name})"
        f" RETURNING {', '.join(table.key)}".encode()
    ).fetchone()
    (found,) = verify(log, models).differences
    assert found.where == f"{table.name} {'/'.join(map(str, row))}"
    assert "not stored" in found.what
    execute(f"DELETE FROM {table.name}".encode())
    (found,) = verify(log, models).differences
    assert "not stored" in found.what
    Projector(log, models).catch_up()


def test_a_row_that_no_event_made_is_named(models: ReadModels, log: PostgresLog) -> None:
    models.connection.execute(
        "INSERT INTO accounts SELECT 'A0', base_currency, portfolio, method, fees, actions,"
        " time_zone, from_date, status, flags, changed_offset FROM accounts LIMIT 1"
    )
    (found,) = verify(log, models).differences
    assert (found.where, found.what) == (
        "accounts A0",
        "the row is stored, but no event makes it",
    )


def test_a_stream_head_changed_by_hand_is_named(models: ReadModels, log: PostgresLog) -> None:
    models.connection.execute(
        "UPDATE projection_heads SET seq = seq + 1 WHERE projection = 'cash' AND stream = 'A1'"
    )
    (found,) = verify(log, models).differences
    assert found.where == f"projection_heads cash/{partition_of('A1', PARTITIONS)}/A1"
