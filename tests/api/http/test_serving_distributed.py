"""Several servers over one Kafka, Postgres and Redis: any of them takes and shows anything."""

import asyncio
import contextlib
import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import redis
from daybook_client import AsyncClient, LocalTable
from psycopg import sql

from api.wiring import running
from infra.settings import load_settings
from streams.deciding.front import KafkaLedger
from streams.kafka_client import LoopThread, parse_place
from streams.kafka_log import KafkaLog
from streams.news import ANYTHING, News, NewsSource
from tests import servers
from tests.api.command_line import CommandLine
from tests.api.http.feed.serving import Served
from tests.api.http.server import cash, deal
from tests.chaos.proxy import Proxy
from tests.streams.kafka_homes import forget, new_home
from tests.streams.requests import send
from tests.waiting import until

PATIENCE_S = 120.0
"""For ever: what is waited for so long takes a second where nothing else runs."""
REDIS_DATABASE = 7
"""Flushed by a test, so it must be nobody else's."""
TOPICS = ("positions", "deals", "balances")


class LossyRedis:
    """A Redis that can go away and come back empty, as whoever uses `url` sees it."""

    def __init__(self, redis_url: str) -> None:
        told = urlsplit(redis_url)
        assert told.port is not None
        self.direct_url = told._replace(path=f"/{REDIS_DATABASE}").geturl()
        self._proxy = Proxy(servers.free_port(), told.port)
        self._loop = LoopThread("proxy")
        self._loop.run(self._proxy.open())
        login, at, _ = told.netloc.rpartition("@")
        self.url = f"redis://{login}{at}127.0.0.1:{self._proxy.port}/{REDIS_DATABASE}"

    def stop(self) -> None:
        """Go away, and lose everything."""
        self._loop.run(self._proxy.cut("refused"))
        with redis.Redis.from_url(self.direct_url) as client:
            client.flushdb()

    def start(self) -> None:
        """Be there again."""
        self._loop.run(self._proxy.heal())

    def close(self) -> None:
        """End it for good."""
        self._loop.close(self._proxy.close())


class Daybook:
    """The processes of one distributed ledger: two servers, a decider and a worker."""

    def __init__(self, daybook: CommandLine, cache: LossyRedis) -> None:
        self.daybook = daybook
        self.cache = cache
        self.servers = (Served(daybook), Served(daybook))
        self._others: dict[str, subprocess.Popen[str]] = {}

    def start(self, word: str) -> None:
        """Start the decider or the worker."""
        silent = dict.fromkeys(("stdin", "stdout"), subprocess.DEVNULL)
        with (self.daybook.folder / f"{word}.log").open("ab") as said:
            self._others[word] = self.daybook.start(word, **silent, stderr=said)

    def said(self, correlation_id: str) -> set[str]:
        """Return what the processes have logged of a command."""
        logs = [server.said for server in self.servers]
        logs += [self.daybook.folder / f"{word}.log" for word in ("decider", "worker")]
        # The last line may be half written.
        lines = [line for log in logs for line in log.read_text().splitlines(True)]
        whole = [line for line in lines if line.startswith("{") and line.endswith("}\n")]
        told = [json.loads(line) for line in whole]
        return {one["event"] for one in told if one.get("correlation_id") == correlation_id}

    def stop(self, word: str) -> None:
        """End the decider or the worker, as a service manager does."""
        process = self._others.pop(word)
        process.terminate()
        assert process.wait(PATIENCE_S) == 0

    def start_all(self) -> None:
        """Start everything, and wait until the first command was decided and shown."""
        self.start("decider")
        self.start("worker")
        with ThreadPoolExecutor() as threads:
            list(threads.map(Served.start, self.servers))
        for server in self.servers:
            with self.client(server) as client:
                position = posted(client, "/v1/cash", cash("FIRST", f"C{server.port}"))
                until(lambda c=client, p=position: shows(c, "FIRST", p))  # type: ignore[misc]

    def end_all(self) -> None:
        """End everything, however it stands."""
        for process in self._others.values():
            process.kill()
            process.wait()
        for server in self.servers:
            with contextlib.suppress(AssertionError):  # it does not run
                server.kill()

    def client(self, server: Served) -> httpx.Client:
        """Return a client of one server."""
        return httpx.Client(base_url=server.url, timeout=PATIENCE_S)


def posted(client: httpx.Client, path: str, body: dict[str, Any]) -> str:
    """Write, again under the same key while no answer comes; return the position."""
    deadline = time.monotonic() + PATIENCE_S
    headers = {"Idempotency-Key": body.get("deal_id") or body["cash_id"]}
    while (answer := client.post(path, json=body, headers=headers)).status_code == 503:
        assert time.monotonic() < deadline, answer.text
    assert answer.status_code in (200, 201), answer.text
    return answer.headers["Daybook-Position"]


def read(client: httpx.Client, topic: str, account: str, position: str) -> httpx.Response:
    """Read a table, again while the worker has not reached a position."""
    path, deadline = f"/v1/accounts/{account}/{topic}", time.monotonic() + PATIENCE_S
    while (answer := client.get(path, params={"min_position": position})).status_code == 504:
        assert time.monotonic() < deadline, answer.text
    assert answer.status_code == 200, answer.text
    return answer


def shows(client: httpx.Client, account: str, position: str) -> bool:
    """Tell whether a server shows an account as of a position at least."""
    return bool(read(client, "balances", account, position).json()["data"])


@pytest.fixture(scope="module")
def cluster(
    kafka_bootstrap: str,
    postgres_url: str,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Daybook]:
    """A distributed ledger that runs, in a namespace of its own."""
    home = new_home(kafka_bootstrap)
    home.open().close()
    log_url = f"kafka://{home.hosts}/{home.namespace}"
    cache = LossyRedis(redis_url)
    daybook = CommandLine(
        tmp_path_factory.mktemp("distributed"),
        DAYBOOK_LOG_URL=log_url,
        DAYBOOK_STORE_URL=postgres_url,
        DAYBOOK_CACHE_URL=cache.url,
        DAYBOOK_LOG_LEVEL="debug",
    )
    made = Daybook(daybook, cache)
    try:
        made.start_all()
        yield made
    finally:
        made.end_all()
        cache.close()
        forget(home)
        drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE")
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(drop.format(sql.Identifier(parse_place(log_url).schema)))


@pytest.fixture
def clients(cluster: Daybook) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A client of each server."""
    with cluster.client(cluster.servers[0]) as one, cluster.client(cluster.servers[1]) as other:
        yield one, other


Clients = tuple[httpx.Client, httpx.Client]


def test_what_one_server_took_the_other_shows(clients: Clients) -> None:
    one, other = clients
    body, key = deal("D1", "1"), {"Idempotency-Key": "deal-1"}
    taken = one.post("/v1/deals", json=body, headers=key)
    assert taken.status_code == 201, taken.text
    position = taken.headers["Daybook-Position"]
    for topic in TOPICS:
        shown = read(other, topic, "D1", position)
        assert shown.json()["data"]
        assert shown.content == read(one, topic, "D1", position).content
    again = other.post("/v1/deals", json=body, headers=key)
    assert (again.status_code, again.json()) == (200, taken.json() | {"status": "duplicate"})
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Daybook-Position"] == position


def test_a_command_is_followed_through_all_processes(cluster: Daybook, clients: Clients) -> None:
    correlation_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{correlation_id}-b7ad6b7169203331-01"}
    answer = clients[0].post("/v1/cash", json=cash("T1", "T1"), headers=headers)
    assert answer.status_code == 201, answer.text
    asked = {"asked", "told", "request answered"}
    decided = {"taken", "decided", "written", "read back", "answered"}
    until(lambda: cluster.said(correlation_id) == {*asked, *decided, "projected"})


def test_what_contradicts_another_servers_write_is_told(clients: Clients) -> None:
    one, other = clients
    posted(one, "/v1/deals", deal("D2", "deal-2"))
    changed = deal("D2", "deal-2", quantity="11")
    answer = other.post("/v1/deals", json=changed, headers={"Idempotency-Key": "deal-2"})
    assert answer.status_code == 409, answer.text
    assert answer.json()["type"] == "urn:daybook:problem:conflict"
    answer = other.post("/v1/deals", json=changed, headers={"Idempotency-Key": "another"})
    assert answer.status_code == 409, answer.text
    assert answer.json()["answer"]["reason"] == "conflict"


def test_servers_hear_in_redis_what_the_worker_tells(cluster: Daybook, clients: Clients) -> None:
    settings = load_settings(
        cluster.daybook.home, environ=cluster.daybook.environment, folder=cluster.daybook.folder
    )

    async def heard(source: NewsSource) -> News:
        async with contextlib.aclosing(source.listen()) as told:
            async for news in told:
                if news == ANYTHING:
                    await asyncio.to_thread(posted, clients[0], "/v1/cash", cash("N1", "N1"))
                elif "N1" in news.streams:
                    return news
        raise AssertionError("it listens until it is closed")

    async def run() -> None:
        with running(settings) as parts:
            assert parts.schema != settings.log_url.text.rpartition("/")[2]
            _, of_redis = parts.news
            news = await asyncio.wait_for(heard(of_redis), PATIENCE_S)
            assert news.topic == "events"

    asyncio.run(run())


def test_positions_are_read_from_the_copy_which_reads_fill(
    cluster: Daybook, clients: Clients
) -> None:
    position = posted(clients[0], "/v1/deals", deal("R1", "R1"))
    namespace = cluster.daybook.environment["DAYBOOK_LOG_URL"].rpartition("/")[2]
    key, limits = f"{namespace}:cache:positions:R1", itertools.count(1)

    def quantity(at: str) -> str:
        # Each time another question: what was answered just now is in the server's own memory.
        told = {"min_position": at, "limit": next(limits)}
        answer = clients[next(limits) % 2].get("/v1/accounts/R1/positions", params=told)
        return answer.json()["data"][0]["quantity"] if answer.status_code == 200 else ""

    with redis.Redis.from_url(cluster.cache.direct_url) as client:
        until(lambda: quantity(position) == "10" and client.exists(key) == 1)
        field = "AAPL\nUSD"
        copied = client.hget(key, field)
        assert copied is not None
        forged = copied.replace(b'"quantity":"10"', b'"quantity":"11"')
        # Again each time: a read that Redis was too slow for may have put back the right one.
        until(lambda: client.hset(key, field, forged) is not None and quantity(position) == "11")
        client.flushdb()
        until(lambda: quantity(position) == "10" and client.exists(key) == 1)
        cluster.cache.stop()
        assert client.exists(key) == 0
        later = posted(clients[1], "/v1/deals", deal("R1", "R2"))
        until(lambda: quantity(later) == "20")
        cluster.cache.start()
        until(lambda: quantity(later) == "20" and client.exists(key) == 1)


class Follower:
    """Keeps a table by the feed of one server. A break in the chain raises FeedGap."""

    def __init__(self, client: AsyncClient, topic: str, account: str) -> None:
        self.topic = topic
        self.table = LocalTable(topic)
        self.snapshots = 0
        self.position = ""
        self._feed = client.feed(topic, account)
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for update in self._feed:
            self.snapshots += update.is_snapshot
            self.position = update.position
            self.table.apply(update)

    async def goes_on_at(self, client: AsyncClient, account: str) -> None:
        """Check that a server goes on from where the feed of another one is."""
        position = self.position
        async with contextlib.aclosing(client.feed(self.topic, account, position=position)) as feed:
            update = await anext(feed)
            assert (update.is_snapshot, update.previous) == (False, position)

    async def until(self, wanted: list[dict[str, Any]]) -> None:
        """Wait until the table is as wanted."""
        await self.until_holds(lambda: self.table.rows() == wanted)

    async def until_holds(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds, while this follows."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if self.task.done():
                self.task.result()
            assert time.monotonic() < deadline, (self.topic, self.table.rows())
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Leave."""
        self.task.cancel()
        await asyncio.wait([self.task])
        await self._feed.aclose()


class Writing:
    """Deals that are written one after the other, until it is told to end."""

    def __init__(self, client: httpx.Client, account: str) -> None:
        self.count = 0
        self.position = "0:0"
        self._is_over = False
        self._task = asyncio.create_task(asyncio.to_thread(self._write, client, account))

    def _write(self, client: httpx.Client, account: str) -> None:
        for number in itertools.count(1):
            if self._is_over:
                return
            told = deal(account, f"{account}-{number}", instrument=f"I{number % 5}")
            self.position = posted(client, "/v1/deals", told)
            self.count = number

    async def some(self, more: int = 5) -> None:
        """Wait until so many more are recorded."""
        wanted, deadline = self.count + more, time.monotonic() + PATIENCE_S
        while self.count < wanted:
            if self._task.done():
                await self._task
            assert time.monotonic() < deadline, self.count
            await asyncio.sleep(0.02)

    async def end(self) -> str:
        """Stop writing; return the position of the last deal."""
        self._is_over = True
        await self._task
        return self.position


def test_feeds_go_on_when_a_server_is_killed_and_redis_is_lost(
    cluster: Daybook, clients: Clients
) -> None:
    posted(clients[0], "/v1/deals", deal("F1", "F1-first", instrument="I0"))

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            opened = [
                await stack.enter_async_context(AsyncClient(server.url))
                for server in cluster.servers
            ]
            followers = [Follower(client, topic, "F1") for client in opened for topic in TOPICS]
            for one in followers:
                await one.until_holds(lambda one=one: one.snapshots == 1)  # type: ignore[misc]
            writing = Writing(clients[1], "F1")
            await writing.some()
            cluster.servers[0].kill()
            await writing.some()
            await asyncio.to_thread(cluster.cache.stop)
            await writing.some()
            await asyncio.to_thread(cluster.servers[0].start)
            await writing.some()
            await asyncio.to_thread(cluster.cache.start)
            await writing.some()
            position = await writing.end()
            async with AsyncClient(cluster.servers[1].url) as client:
                others = [client for client in reversed(opened) for _ in TOPICS]
                for one, other in zip(followers, others, strict=True):
                    wanted = await getattr(client, one.topic)("F1", min_position=position).rows()
                    await one.until(wanted)
                    assert one.snapshots == 1, "who comes back goes on where it was"
                    await one.goes_on_at(other, "F1")
                    await one.stop()
                deals = await client.deals("F1", min_position=position).rows()
                assert len(deals) == writing.count + 1

    asyncio.run(run())


def test_a_transfer_that_its_sender_left_is_finished(cluster: Daybook, clients: Clients) -> None:
    """Its server was killed right behind it: another finishes it, though all only read there."""
    posted(clients[0], "/v1/cash", cash("T1", "T1"))
    posted(clients[0], "/v1/cash", cash("T2", "T2"))
    with contextlib.ExitStack() as stack:
        log = KafkaLog.open(cluster.daybook.environment["DAYBOOK_LOG_URL"])
        stack.callback(log.close)
        ledger = KafkaLedger(log, patience_s=PATIENCE_S)
        stack.callback(ledger.close)
        (answer,) = ledger.submit([send("left", "T1", "left", "T2")])
    assert answer.status == "accepted"

    def received() -> bool:
        rows = clients[1].get("/v1/accounts/T2/balances").json()["data"]
        return [row["balance"] for row in rows] == ["105.50"]

    until(received)


def lag(client: httpx.Client) -> int:
    """Return how far the positions of a server are behind, by its own word."""
    told = {one["name"]: one["lag"] for one in client.get("/readyz").json()["projections"]}
    found: int = told["positions"]
    return found


def test_a_worker_that_is_away_is_told_as_lag(cluster: Daybook, clients: Clients) -> None:
    until(lambda: [lag(one) for one in clients] == [0, 0])
    cluster.stop("worker")
    position = posted(clients[0], "/v1/cash", cash("L1", "L1"))
    until(lambda: min(lag(one) for one in clients) > 0)
    answer = clients[1].get("/v1/accounts/L1/balances", params={"min_position": position})
    assert answer.status_code == 504
    assert answer.json()["type"] == "urn:daybook:problem:position-not-reached"
    cluster.start("worker")
    until(lambda: [lag(one) for one in clients] == [0, 0])
    assert shows(clients[1], "L1", position)


def test_without_a_decider_writes_are_told_so(cluster: Daybook, clients: Clients) -> None:
    position = posted(clients[0], "/v1/cash", cash("W1", "W1"))
    cluster.stop("decider")

    def write(client: httpx.Client) -> httpx.Response:
        key = {"Idempotency-Key": "W2"}
        return client.post("/v1/cash", json=cash("W1", "W2", "1"), headers=key)

    with ThreadPoolExecutor() as threads:
        answering = threads.map(write, clients)
        assert shows(clients[1], "W1", position), "reads go on"
        for answer in answering:
            assert answer.status_code == 503, answer.text
            problem = answer.json()
            assert problem["type"] == "urn:daybook:problem:unavailable"
            assert "nobody has decided this" in problem["detail"]
            assert "send it again with the same key" in problem["detail"]
            assert int(answer.headers["Retry-After"]) > 0
    cluster.start("decider")
    positions = [posted(client, "/v1/cash", cash("W1", "W2", "1")) for client in clients]
    assert positions[0] == positions[1]
    rows = read(clients[0], "cash", "W1", positions[0]).json()["data"]
    assert sorted(row["cash_id"] for row in rows) == ["W1", "W2"]


def test_a_server_ends_well_while_nobody_decides_its_writes(
    cluster: Daybook, clients: Clients
) -> None:
    ending = cluster.servers[0]
    told: dict[str, Any] = {"json": cash("W3", "W3"), "headers": {"Idempotency-Key": "W3"}}
    cluster.stop("decider")
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(clients[0].post, "/v1/cash", **told)
        # The one that asks for it is under way, too.
        until(lambda: "requests_under_way 2.0" in clients[0].get("/metrics").text)
        ending.stop()
        answer = asked.result(PATIENCE_S)
    assert answer.status_code == 503, answer.text
    assert "nobody has decided this" in answer.json()["detail"]
    ending.start()
    cluster.start("decider")
    assert shows(clients[0], "W3", posted(clients[0], "/v1/cash", cash("W3", "W3")))
