"""An account's positions as of a past time, in a book of many accounts.

Ten accounts are imported, so that their events can be folded from the log as well. The others are
filled straight into the table of deals, in time order with the accounts interleaved, as they would
have come; they are copies of the imported deals under other account names. Accounts and times are
drawn at random, so that little of what is read is still in the server's own cache.
"""

import random
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

from psycopg import sql

from api.questions import Asker, Question, as_of_from
from api.read_models import READ_MODELS
from api.wiring import Parts
from benchmarks.books import imported_book
from benchmarks.rows import Row
from infra.postgres import Connection
from projections.positions.tables import DEALS, POSITIONS

DEALS_AN_ACCOUNT: Final = 1_000
IMPORTED: Final = 10
QUESTIONS: Final = 200
SIZES: Final = {False: 1_000_000, True: 10_000_000}


def main(*, full: bool = False) -> list[Row]:
    """Ask through the code that answers `daybook positions --as-of`, in a running process."""
    size = SIZES[full]
    imported = IMPORTED * DEALS_AN_ACCOUNT
    with imported_book(imported, IMPORTED, instruments=10) as parts:
        parts.projector.catch_up()
        started = time.perf_counter()
        _fill(parts.models.connection, size // imported)
        note = f"deals filled in by the server in {time.perf_counter() - started:,.0f} s"
        draw = random.Random(3)
        accounts = [f"A{draw.randrange(size // DEALS_AN_ACCOUNT):05}" for _ in range(QUESTIONS)]
        ours = [_asked_ms(parts, account, draw) for account in accounts]
        theirs = [_folded_ms(parts, f"A{n:05}", draw) for n in range(IMPORTED)]
    what = f"an account of {DEALS_AN_ACCOUNT:,} deals as of a past time, {size:,} deals"
    return [
        Row(
            what=f"{what}, median",
            unit="ms",
            ours=statistics.median(ours),
            beside="folding the account's events from the log",
            other=statistics.median(theirs),
            target=5,
            note=note,
        ),
        Row(what=f"{what}, p99", unit="ms", ours=sorted(ours)[len(ours) * 99 // 100]),
    ]


def _asked_ms(parts: Parts, account: str, draw: random.Random) -> float:
    question = Question(account=account, as_of=as_of_from(_some_time(draw)))
    start = time.perf_counter()
    shown = READ_MODELS["positions"].ask(Asker(parts, question))
    taken = time.perf_counter() - start
    assert shown.rows, account
    return taken * 1e3


def _folded_ms(parts: Parts, account: str, draw: random.Random) -> float:
    """Fold from the log, and see that the question's answer is the same."""
    as_of = as_of_from(_some_time(draw))
    start = time.perf_counter()
    rows = parts.past.rows(POSITIONS, [account], as_of=as_of, refold=True)
    taken = time.perf_counter() - start
    question = Question(account=account, as_of=as_of)
    asked = READ_MODELS["positions"].ask(Asker(parts, question)).rows
    assert [row[:4] for row in asked] == [_key_and_quantity(row) for row in rows]
    return taken * 1e3


def _key_and_quantity(row: Any) -> Sequence[Any]:
    return row.account, row.instrument, row.currency, row.quantity


def _some_time(draw: random.Random) -> str:
    """Return an instant in the one trading day that the deals are of."""
    second = draw.randrange(600, 10_000)
    hour, minute = divmod(second // 60, 60)
    return f"2024-01-01T{14 + hour:02}:{minute:02}:{second % 60:02}Z"


def _fill(connection: Connection, times: int) -> None:
    """Multiply the accounts of the table of deals; its indexes are made again afterwards."""
    name = DEALS.name
    indexes = connection.execute(
        "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), c.conname,"
        " pg_get_constraintdef(c.oid) FROM pg_index i"
        " LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid WHERE i.indrelid = %s::regclass",
        (name,),
    ).fetchall()
    execute = connection.execute
    for index, _, constraint, _ in indexes:
        dropped = f"ALTER TABLE {name} DROP CONSTRAINT {constraint}"
        execute((dropped if constraint else f"DROP INDEX {index}").encode())
    columns = [column for column in DEALS.columns if column != "account"]
    execute(
        sql.SQL(
            "INSERT INTO {table} (account, {columns})"
            " SELECT 'A' || lpad((right(d.account, 5)::int + n * %s)::text, 5, '0'), {own}"
            " FROM {table} AS d,"
            " generate_series(1, %s) AS n ORDER BY d.event_time_ns, n"
        ).format(
            table=sql.Identifier(name),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            own=sql.SQL(", ").join(sql.Identifier("d", column) for column in columns),
        ),
        (IMPORTED, times - 1),
    )
    for _, definition, constraint, told in indexes:
        added = f"ALTER TABLE {name} ADD CONSTRAINT {constraint} {told}"
        execute((added if constraint else definition).encode())
    execute(f"VACUUM ANALYZE {name}".encode())
