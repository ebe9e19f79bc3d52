"""What goes on behind all connections: whose faults are whose, what is read for nobody, the start.

Real reads of a real ledger; clients are wires that keep what they are sent.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec
import psycopg
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest

from api.http.feed import hub as hubs
from api.http.feed import service
from api.http.feed.connection import Connection
from api.http.feed.frames import Frame, Subscribe
from api.http.feed.hub import Hub
from api.http.feed.metrics import FeedMetrics
from api.http.feed.reading import Ask, Moment, Reader
from api.http.security import LOCAL
from api.wiring import Parts, running
from infra.errors import ServerUnavailable
from infra.settings import Settings, load_settings
from streams.news import News, NewsSource
from tests.api.conftest import NewDaybook
from tests.streams.sample_book import sample_requests

WAIT_S = 60


@pytest.fixture(scope="module")
def config(new_daybook: NewDaybook) -> Settings:
    """The settings of a ledger with a sample book, projected."""
    daybook = new_daybook()
    settings = load_settings(environ=daybook.environment, folder=daybook.folder)
    with running(settings) as parts:
        parts.ledger.submit(sample_requests(100))
        parts.projector.catch_up()
    return settings


@pytest.fixture
def two(config: Settings) -> Iterator[tuple[Parts, Parts]]:
    """Parts for each of a hub's threads."""
    with running(config) as live, running(config) as missed:
        yield live, missed


class Recording(Reader):
    """A reader that keeps what it was asked."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(lambda: parts.models.connection, parts.log)
        self.asked: list[Ask] = []
        self.reads = 0

    def read(self, asks: Sequence[Ask]) -> Moment:
        self.asked += asks
        self.reads += 1
        return super().read(asks)


class Kept:
    """A wire that keeps all that is sent."""

    is_ready = True

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self._came = asyncio.Event()
        self.is_ended = False

    def send(self, frame: Frame) -> None:
        self.frames.append(msgspec.json.decode(b"".join(frame)))
        self._came.set()

    def close(self, code: int, reason: str) -> None:
        assert self.is_ended, (code, reason)

    async def hear(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first frame that is wanted, once it has come."""
        async with asyncio.timeout(WAIT_S):
            while not (found := [frame for frame in self.frames if wanted(frame)]):
                self._came.clear()
                await self._came.wait()
        return found[0]


class Restless:
    """News of one partition, again and again."""

    async def listen(self) -> AsyncGenerator[News, None]:
        while True:
            yield News("events", 1, 1)
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def following(
    two: tuple[Parts, Parts], news: Sequence[NewsSource] = ()
) -> AsyncIterator[tuple[Hub, Recording, Recording]]:
    """Run a hub for the length of a block; yield it with its two readers."""
    live, missed = map(Recording, two)
    hub = Hub(live, missed, news)
    hub.start()
    try:
        yield hub, live, missed
    finally:
        await hub.stop()


def connected(hub: Hub) -> tuple[Connection, Kept]:
    """Return a connection and its wire."""
    wire, connection = Kept(), Connection(hub, LOCAL)
    connection.open(lambda _on_ready: wire)
    hub.connections.add(connection)
    return connection, wire


def about(told_id: str) -> Callable[[dict[str, Any]], bool]:
    """Return what tells a frame of a subscription."""
    return lambda frame: frame.get("id") == told_id


def test_an_ask_that_cannot_be_answered_fails_alone(
    two: tuple[Parts, Parts], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No such name gets through from outside: here the store is what refuses it.
    monkeypatch.setattr("api.http.feed.access.is_id", lambda _text: True)

    async def run() -> None:
        async with following(two) as (hub, _, _):
            connection, wire = connected(hub)
            names = [*(f"A{number}" for number in range(8)), "\0", "B1", "a\0b", "B2"]
            for name in names:
                connection.subscribe(Subscribe(name, "deals", name))
            for name in names:
                frame = await wire.hear(about(name))
                assert frame["op"] == ("error" if "\0" in name else "snapshot")
            assert set(connection.subscriptions) == {name for name in names if "\0" not in name}

    asyncio.run(run())


def test_nothing_is_read_for_those_who_have_left(two: tuple[Parts, Parts]) -> None:
    async def run() -> None:
        async with following(two) as (hub, _, missed):
            connection, _ = connected(hub)
            for number in range(200):
                connection.subscribe(Subscribe(number, "deals", f"gone {number}"))
            connection.end()  # in one turn of the loop: nothing has been read yet
            hub.connections.discard(connection)
            other, wire = connected(hub)
            other.subscribe(Subscribe("here", "deals", "A1"))
            await wire.hear(about("here"))
            assert [ask.account for ask in missed.asked] == ["A1"]

    asyncio.run(run())


def test_among_news_of_one_place_the_others_are_looked_at(
    two: tuple[Parts, Parts], config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "POLL_S", 0.2)

    async def run() -> None:
        async with following(two, [Restless()]) as (hub, live, _):
            connection, wire = connected(hub)
            connection.subscribe(Subscribe("a", "alerts"))
            await wire.hear(about("a"))
            reads = live.reads  # the first subscription has all looked at, once
            async with asyncio.timeout(WAIT_S):
                while live.reads < reads + 5:  # noqa: ASYNC110 - nothing tells it
                    await asyncio.sleep(0.01)
            halt = "UPDATE daybook.projection_checkpoints SET halted = 'why'"
            with psycopg.connect(config.store_url.text, autocommit=True) as database:
                database.execute(f"{halt} WHERE projection = 'cash' AND partition = 3")
            frame = await wire.hear(lambda told: bool(told.get("rows")))
            assert [row["projection"] for row in frame["rows"]] == ["cash"]

    asyncio.run(run())


def test_a_feed_tells_now_and_then_that_it_lives_and_counts_what_it_does(
    two: tuple[Parts, Parts], config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "HEARTBEAT_S", 1.0)

    async def run() -> None:
        async with following(two) as (hub, _, _):
            registry = CollectorRegistry()
            registry.register(FeedMetrics(hub.connections, hub.counts))
            connection, wire = connected(hub)
            connection.subscribe(Subscribe("a", "deals", "A1"))
            await wire.hear(about("a"))
            heartbeat = await wire.hear(
                lambda told: told["op"] == "heartbeat" and told["position"] != "0:0"
            )
            with running(config) as parts:
                assert set(heartbeat["position"].split(",")) <= heads(parts)
            wire.is_ended = True
            connection.close(4429, "too many")
            shown = generate_latest(registry).decode()
            for line in (
                "daybook_feed_connections 1.0",
                "daybook_feed_subscriptions 1.0",
                "daybook_feed_frames_total 1.0",
                "daybook_feed_conflated_total 0.0",
                "daybook_feed_reads_total 1.0",
                'daybook_feed_closed_total{code="4429"} 1.0',
            ):
                assert line in shown.splitlines()

    asyncio.run(run())


def heads(parts: Parts) -> set[str]:
    """Return the last position of each partition of the log of accounts."""
    return {f"{place}:{end - 1}" for place, end in enumerate(parts.log.heads("events"))}


class Openings:
    """Stands for opening parts: the second time it waits, and may fail."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.opened, self.closed = 0, 0
        self.is_second, self.go_on = threading.Event(), threading.Event()
        self._fault = fault

    @contextlib.contextmanager
    def running(self, settings: Settings) -> Iterator[Parts]:
        if self.opened == 1:
            self.is_second.set()
            assert self.go_on.wait(WAIT_S)
            if self._fault is not None:
                raise self._fault
        self.opened += 1
        try:
            with running(settings) as parts:
                yield parts
        finally:
            self.closed += 1


class OnlySettings(msgspec.Struct):
    """What of a server's services is needed to open a feed."""

    settings: Settings


@pytest.mark.parametrize("fault", [None, ServerUnavailable("the store", "gone", "wait")])
def test_what_was_opened_is_closed_where_a_feed_does_not_start(
    config: Settings, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    openings = Openings(fault)
    monkeypatch.setattr(service, "running", openings.running)

    async def start() -> None:
        app = FastAPI()
        app.state.services = OnlySettings(config)
        async with service.serving_feed(app):
            raise AssertionError("it must not start")

    async def run() -> None:
        starting = asyncio.create_task(start())
        assert await asyncio.to_thread(openings.is_second.wait, WAIT_S)
        if fault is None:
            starting.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not starting.done(), "what is being opened is waited for"
        openings.go_on.set()
        with pytest.raises(asyncio.CancelledError if fault is None else ServerUnavailable):
            await starting
        assert (openings.opened, openings.closed) == ((1, 1) if fault else (2, 2))

    asyncio.run(run())
