"""The check before a trade: `decide` on new orders, from state that is in memory.

Each order is new, for one of 20 accounts and 100 instruments; what is timed, one by one, is the
decision alone, by the rules and over the memory that the ledger itself uses. Beside it the same
decision when the three things that it looks at (account, instrument, order) are read from Postgres
by their keys in one prepared statement.
"""

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from api.wiring import Parts, running
from benchmarks.books import fresh_home
from benchmarks.rows import Row
from domain.commands import DefineInstrument, OpenAccount, PlaceOrder, Request
from domain.decider import decide
from domain.decisions import Accepted
from domain.entities import Entity
from domain.times import Instant
from infra import postgres
from schemas.partitioning import partition_of
from streams import entity_store
from streams.log import TopicPartition
from streams.memory import EntityRef, PartitionMemory, PartitionWork, StreamHead, StreamView
from streams.postgres_log import PostgresLog

ORDERS: Final = 100_000
READ_ORDERS: Final = 2_000
ACCOUNTS: Final = [f"A{n:05}" for n in range(20)]
INSTRUMENTS: Final = [f"I{n:03}" for n in range(100)]
_WHEN: Final = Instant("2024-01-02T14:30:00.000000000Z")
_PLACE: Final[TopicPartition] = ("events", 0)


def main(*, full: bool = False) -> list[Row]:
    """Measure p50 and p99 of both sides."""
    requests = _requests(ORDERS * (5 if full else 1))
    with fresh_home() as home, running(home.settings) as parts:
        parts.ledger.submit(_openings())
        assert isinstance(parts.log, PostgresLog)
        reading = parts.log.connect()
        theirs = _times_us(
            requests[:READ_ORDERS], lambda request: _decided_by_reading(reading, parts, request)
        )
        reading.close()
        known = _known(parts)
    work = _work(known)
    instruments = {name: known["reference", name] for name in INSTRUMENTS}
    views = {name: StreamView(work, name, instruments.get) for name in ACCOUNTS}
    ours = _times_us(requests, lambda request: decide(views[request.key], request, "content"))
    return [
        Row(
            what=f"decide a new order, p{share}",
            unit="us",
            ours=_quantile(ours, share),
            beside="the same, its state read from Postgres by key",
            other=_quantile(theirs, share),
            target=10 if share == 99 else None,
        )
        for share in (50, 99)
    ]


def _times_us(requests: list[Request], decided: Callable[[Request], object]) -> list[float]:
    """Return the sorted times of deciding each request, after a few to get warm."""
    for request in requests[:500]:
        assert isinstance(decided(request), Accepted), request
    clock, taken = time.perf_counter_ns, []
    for request in requests:
        start = clock()
        decided(request)
        taken.append(clock() - start)
    return sorted(ns / 1e3 for ns in taken)


def _quantile(ordered: list[float], share: int) -> float:
    return ordered[len(ordered) * share // 100]


def _requests(count: int) -> list[Request]:
    return [
        Request(
            command_id=f"order-{n}",
            key=ACCOUNTS[n % len(ACCOUNTS)],
            event_time=_WHEN,
            command=PlaceOrder(
                order_id=f"2024-01-02/O{n}",
                instrument=INSTRUMENTS[n % len(INSTRUMENTS)],
                side="buy" if n % 3 else "sell",
                quantity=Decimal(1 + n % 500),
                order_type="limit",
                limit_price=Decimal(9_000 + n % 2_000) / 100,
            ),
        )
        for n in range(count)
    ]


def _openings() -> list[Request]:
    accounts = [
        Request(
            command_id=name, key=name, event_time=_WHEN, command=OpenAccount(base_currency="USD")
        )
        for name in ACCOUNTS
    ]
    instruments = [
        Request(
            command_id=name,
            key=name,
            event_time=_WHEN,
            command=DefineInstrument(kind="equity", currency="USD"),
        )
        for name in INSTRUMENTS
    ]
    return [*accounts, *instruments]


# --- from memory -------------------------------------------------------------------------------


class _NothingElse:
    """An index in which nothing is but what memory has: each order is new."""

    def fetch_entity(self, place: TopicPartition, ref: EntityRef) -> Entity | None:
        """Return None: there is no such entity."""
        del place, ref
        return None

    def fetch_head(self, place: TopicPartition, key: str) -> StreamHead:
        """Say that deciding asks for no head."""
        raise AssertionError(place, key)


def _known(parts: Parts) -> dict[tuple[str, str], Entity]:
    """Return the accounts and instruments as the ledger has stored them, by topic and key."""
    found: dict[tuple[str, str], Entity] = {}
    for topic, kind, names in (
        ("events", "account", ACCOUNTS),
        ("reference", "instrument", INSTRUMENTS),
    ):
        for name in names:
            place: TopicPartition = (
                "events" if topic == "events" else "reference",
                partition_of(name, parts.log.partitions),
            )
            entity = parts.ledger.fetch_entity(place, (name, kind, ""))
            assert entity is not None
            found[topic, name] = entity
    return found


def _work(known: dict[tuple[str, str], Entity]) -> PartitionWork:
    work = PartitionWork(_PLACE, PartitionMemory(0, ORDERS), _NothingElse())
    for name in ACCOUNTS:
        work.remember((name, "account", ""), known["events", name])
    return work


# --- from Postgres -----------------------------------------------------------------------------


class _Read:
    """A view of what was read for one decision."""

    def __init__(self, entities: dict[str, Entity | None]) -> None:
        self._entities = entities

    def get(self, kind: str, entity_id: str) -> Entity | None:
        """Return what was read of a kind."""
        del entity_id
        return self._entities.get(kind)


def _decided_by_reading(connection: postgres.Connection, parts: Parts, request: Request) -> object:
    command = request.command
    assert isinstance(command, PlaceOrder)
    place: TopicPartition = ("events", partition_of(request.key, parts.log.partitions))
    home: TopicPartition = (
        "reference",
        partition_of(command.instrument, parts.log.partitions),
    )
    wanted: list[tuple[TopicPartition, EntityRef]] = [
        (place, (request.key, "account", "")),
        (place, (request.key, "order", command.order_id)),
        (home, (command.instrument, "instrument", "")),
    ]
    found = entity_store.fetch_entities(connection, wanted)
    kinds = ("account", "order", "instrument")
    return decide(_Read(dict(zip(kinds, found, strict=True))), request, "content")
