"""From the log into read models, checkpointed: the positions projection alone, and all of them.

Beside it the plain way to write a projection: an event at a time, an upsert of the deal and one of
its position, a transaction with its checkpoint for every 1,000 events. It keeps no lots, no
realised P&L and does not validate the chain, so it has less to do.

A process loads the compiled loops once, when it is far behind for the first time. That is a line of
its own, and not in the rates; what a process sees that does nothing else is in the notes.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from api.wiring import Parts, running
from benchmarks.books import Home, fresh_home, import_deals, write_deals
from benchmarks.rows import Row
from domain.events import DealRecorded
from infra import postgres
from projections.positions.fold import PROJECTION as POSITIONS
from projections.registry import PROJECTIONS
from projections.rows import Projection
from schemas.codec import decode
from schemas.envelope import Recorded
from streams.plain_deals import plain_deals
from streams.projecting import Projector
from streams.read_models import ReadModels

DEALS: Final = {False: 300_000, True: 1_000_000}
PLAIN_EVENTS: Final = 10_000
_TRANSACTION: Final = 1_000
_PLAIN_SQL: Final = """
CREATE TABLE plain_deals (account text, deal_id text, instrument text, currency text, side text,
    quantity numeric, price numeric, fees numeric, event_time text, trade_date text,
    PRIMARY KEY (account, deal_id));
CREATE TABLE plain_positions (account text, instrument text, currency text, quantity numeric,
    cost numeric, PRIMARY KEY (account, instrument, currency));
CREATE TABLE plain_checkpoint (one boolean PRIMARY KEY, events bigint);
"""


def main(*, full: bool = False) -> list[Row]:
    """Measure each several times into fresh tables; medians."""
    deals = DEALS[full]
    with fresh_home() as home, running(home.settings) as parts:
        path = home.folder / "deals.csv"
        write_deals(path, deals)
        import_deals(parts, path, deals)
        loading_s = _loading_s(parts)
        positions, every, plain = [], [], []
        for number in range(3):
            positions.append(_rate(home, parts, f"one_{number}", (POSITIONS,)))
            every.append(_rate(home, parts, f"all_{number}", PROJECTIONS))
            plain.append(_plain_rate(home, parts, number))
    beside = "an event at a time, upserts of deal and position, 1,000 a transaction"
    other = statistics.median(plain)
    return [
        Row(
            what=f"{deals:,} deals into {what}",
            unit="events/s",
            ours=rate,
            beside=beside,
            other=other,
            target=target,
            note=f"{deals / (deals / rate + loading_s):,.0f} with the loading",
        )
        for what, rate, target in (
            ("deals, lots and positions", statistics.median(positions), 60_000),
            ("all read models", statistics.median(every), 25_000),
        )
    ] + [Row(what="loading the compiled loops, once a process", unit="s", ours=loading_s)]


def _loading_s(parts: Parts) -> float:
    """Return how much longer the first scan of this process takes than the second."""
    heads = parts.log.heads("events")
    records = parts.log.read("events", heads.index(max(heads)), 1, _TRANSACTION)
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        recognised = sum(one is not None for one in plain_deals(records))
        taken.append(time.perf_counter() - start)
        assert recognised > len(records) // 2
    return taken[0] - taken[1]


def _rate(home: Home, parts: Parts, schema: str, projections: Sequence[Projection]) -> float:
    """Return records a second into the tables of a schema of their own."""
    models = ReadModels(home.dsn, schema, parts.log.log_id, projections)
    try:
        start = time.perf_counter()
        records = Projector(parts.log, models).catch_up()
        return records / (time.perf_counter() - start)
    finally:
        models.close()


def _plain_rate(home: Home, parts: Parts, number: int) -> float:
    """Return events a second by the plain way, of the log's first PLAIN_EVENTS deals."""
    connection = postgres.connect(home.dsn)
    connection.execute(f"CREATE SCHEMA plain_{number}".encode())
    connection.execute(f"SET search_path = plain_{number}".encode())
    connection.execute(_PLAIN_SQL.encode())
    start = time.perf_counter()
    done = 0
    for batch in _batches(parts):
        with connection.transaction():
            for recorded in batch:
                _project_plainly(connection, recorded)
            done += len(batch)
            connection.execute(
                "INSERT INTO plain_checkpoint VALUES (true, %s)"
                " ON CONFLICT (one) DO UPDATE SET events = excluded.events",
                (done,),
            )
    taken = time.perf_counter() - start
    connection.close()
    return done / taken


def _batches(parts: Parts) -> Iterator[list[Recorded]]:
    done = 0
    for partition, head in enumerate(parts.log.heads("events")):
        for offset in range(1, head, _TRANSACTION):
            if done >= PLAIN_EVENTS:
                return
            records = parts.log.read("events", partition, offset, _TRANSACTION)
            done += len(records)
            yield [decode(record) for record in records]


def _project_plainly(connection: postgres.Connection, recorded: Recorded) -> None:
    event, account = recorded.event, recorded.envelope.stream
    if not isinstance(event, DealRecorded):
        return
    deal: tuple[Any, ...] = (
        *(account, event.deal_id, event.instrument, event.currency, event.side, event.quantity),
        *(event.price, sum(fee.amount for fee in event.fees), recorded.envelope.event_time),
        event.trade_date,
    )
    connection.execute(
        "INSERT INTO plain_deals VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (account, deal_id) DO UPDATE SET quantity = excluded.quantity,"
        " price = excluded.price, fees = excluded.fees",
        deal,
    )
    sign = 1 if event.side == "buy" else -1
    connection.execute(
        "INSERT INTO plain_positions AS p VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (account, instrument, currency) DO UPDATE SET"
        " quantity = p.quantity + excluded.quantity, cost = p.cost + excluded.cost",
        (account, event.instrument, event.currency, sign * event.quantity, sign * event.cost),
    )
