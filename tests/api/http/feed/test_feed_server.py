"""The feed of a real server: no gap under writes and across kills, whoever else is connected."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from daybook_client import AsyncClient, Client, LocalTable
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.api.conftest import NewDaybook
from tests.api.http.feed.serving import WAIT_S, Served, Socket
from tests.api.http.server import token as signed
from tests.streams import requests as made
from tests.streams.sample_book import ACCOUNTS, sample_requests

TOPICS = ("orders", "deals", "balances", "positions")
PLACES = [(topic, account) for topic in TOPICS for account in ACCOUNTS]


# A mark is the one that was current when its row was sent; a price alone sends nothing.
MARKED = ("mark", "mark_time", "market_value", "unrealised_pnl")


def unmarked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without what their marks make of them."""
    return [{name: row[name] for name in row if name not in MARKED} for row in rows]


async def tables_now(client: AsyncClient) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return all tables of the sample book by the API, once they hold all that was written."""
    positions = {}
    for account in ACCOUNTS:
        answer = await client.move_cash(account, kind="fee", amount=-1, currency="USD")
        positions[account] = answer.position
    found = {}
    for topic, account in PLACES:
        ask: Any = getattr(client, topic)
        rows = await ask(account, min_position=positions[account]).rows()
        found[topic, account] = unmarked(rows)
    return found


class Follower:
    """Keeps a table by a feed, and counts its own frames."""

    def __init__(self, client: AsyncClient, topic: str, account: str) -> None:
        self.topic, self.account = topic, account
        self.table = LocalTable(topic)
        self.snapshots = self.deltas = 0
        self._feed = client.feed(topic, account)
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for update in self._feed:
            self.snapshots += update.is_snapshot
            self.deltas += not update.is_snapshot
            if self.topic == "events":
                # An event never changes: one that comes again was sent twice.
                assert update.is_snapshot or not any(
                    self.table.key_of(row) in self.table for row in update.rows
                )
            self.table.apply(update)

    async def until(self, wanted: list[dict[str, Any]]) -> None:
        """Wait until the table is as wanted."""
        await self._wait(lambda: unmarked(self.table.rows()) == wanted)
        assert unmarked(self.table.rows()) == wanted

    async def until_shown(self) -> None:
        """Wait until the table as it was has come."""
        await self._wait(lambda: self.snapshots > 0)
        assert self.snapshots == 1

    async def until_changed(self) -> None:
        """Wait until a change has come."""
        await self._wait(lambda: self.deltas > 0)
        assert self.deltas > 0

    async def until_last(self) -> None:
        """Wait until the event has come that `tables_now` wrote last."""
        await self._wait(lambda: any(row["data"].get("kind") == "fee" for row in self.table))

    async def _wait(self, is_met: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + WAIT_S
        while not is_met() and loop.time() < end:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Leave."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._feed.aclose()


def test_snapshots_and_deltas_make_the_tables(served: Served) -> None:
    told = sample_requests(240)
    served.write(told[:80])

    async def run() -> None:
        async with AsyncClient(served.url) as client:
            followers = [Follower(client, *place) for place in PLACES]
            await asyncio.to_thread(served.write, told[80:], 2)
            wanted = await tables_now(client)
            for one in followers:
                await one.until(wanted[one.topic, one.account])
                assert one.snapshots == 1
                assert len(one.table) > 0
                await one.stop()

    asyncio.run(run())


def test_many_clients_across_a_kill_end_with_the_tables(served: Served) -> None:
    told = sample_requests(200)
    served.write(told[:60])

    async def run() -> None:
        async with AsyncClient(served.url) as client:
            places = [*PLACES, *(("events", account) for account in ACCOUNTS)]
            followers = [Follower(client, *places[n % len(places)]) for n in range(150)]
            for one in followers:
                await one.until_shown()
            is_dead = asyncio.Event()

            async def write() -> None:
                await asyncio.to_thread(served.write, told[60:140], 2)
                await is_dead.wait()
                await asyncio.to_thread(served.write, told[140:], 2)

            writing = asyncio.create_task(write())
            await next(one for one in followers if one.topic == "events").until_changed()
            served.kill()
            is_dead.set()
            await asyncio.to_thread(served.start)
            await writing
            wanted = await tables_now(client)
            for one in followers:
                if one.topic == "events":
                    await one.until_last()
                else:
                    await one.until(wanted[one.topic, one.account])
                await one.stop()
                assert one.snapshots == 1, "a resume is served without a snapshot"
                if one.topic == "events":
                    seqs = sorted(row["seq"] for row in one.table)
                    assert seqs == list(range(1, len(seqs) + 1))

    asyncio.run(run())


def test_all_accounts_at_once(served: Served) -> None:
    told = sample_requests(120)
    served.write(told[:60])
    with Client(served.url) as client:
        feed, table = client.feed("positions"), LocalTable("positions")
        table.apply(next(feed))
        served.write(told[60:], at_once=10)
        answer = client.record_deal(
            "A2", instrument="AAPL", side="buy", quantity=1, price=1, currency="USD"
        )
        wanted = [
            row
            for account in ACCOUNTS
            for row in client.positions(account, min_position=answer.position).rows()
        ]
        while unmarked(table.rows()) != unmarked(wanted):
            table.apply(next(feed))
        feed.close()


def test_a_slow_client_gets_the_latest_and_costs_the_others_nothing(shared: Served) -> None:
    shared.write([made.open_account("S1"), made.define("AAPL")])
    with shared.socket() as quick, shared.socket(**_unready(shared)) as slow:
        positions = []
        for one in (quick, slow):
            one.subscribe(1, "deals", "S1")
            positions.append(one.hear()["position"])
        deals = [made.deal(f"c{n}", "S1", f"d{n}") for n in range(2000)]
        frames = []
        for one, at in zip((quick, slow), positions, strict=True):
            seen: set[str] = set()
            frames.append(0)
            for start in range(0, len(deals), 100):
                if one is quick:
                    shared.write(deals[start : start + 100])
                while len(seen) < start + 100:
                    frame = one.hear()
                    assert frame["op"] == "delta"
                    assert frame["previous"] == at
                    at = frame["position"]
                    frames[-1] += 1
                    seen |= {row["deal_id"] for row in frame["rows"]}
        assert frames[1] < frames[0]


def _unready(served: Served) -> dict[str, Any]:
    """Return what makes a socket that the kernel takes little for, and that is read late."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", served.port))
    return {"sock": raw, "max_queue": 1}


def _is_held(server: Served, port: int) -> bool:
    """Tell whether a server still has its end of the connection to a port. Source: proc(5)."""
    ends = f":{server.port:04X} 0100007F:{port:04X} 01 "  # 01: established
    return ends in Path("/proc/net/tcp").read_text()


def test_a_client_that_never_reads_is_cut_off(new_daybook: NewDaybook) -> None:
    sooner = "from api.http.feed import connection, wire; connection.STUCK_S = wire._LEAVE_S = 1.0"
    server = Served(new_daybook(), sooner)
    server.start()
    server.write([made.open_account("A1"), made.define("AAPL")])
    unready = _unready(server)
    with server.socket(**unready) as idle, server.socket() as other:
        idle.subscribe(1, "deals", "A1")
        server.write([made.deal(f"c{n}", "A1", f"d{n}") for n in range(3000)], at_once=500)
        end = time.monotonic() + WAIT_S
        while _is_held(server, unready["sock"].getsockname()[1]):
            assert time.monotonic() < end
            time.sleep(0.05)
        other.subscribe(1, "deals", "A1")
        assert other.hear()["op"] == "snapshot"
        with pytest.raises(ConnectionClosed):
            idle.hear(lambda _: False)
    server.stop()


def test_what_stands_still_is_an_alert(shared: Served) -> None:
    with shared.socket() as feed, psycopg.connect(shared.database, autocommit=True) as database:
        feed.subscribe("a", "alerts")
        assert feed.hear()["rows"] == []
        database.execute("SET search_path TO daybook")
        halt = "UPDATE projection_checkpoints SET halted = %s WHERE projection = 'cash' AND"
        database.execute(f"{halt} partition = 3", ("why",))
        frame = feed.hear()
        assert (frame["op"], frame["id"]) == ("snapshot", "a")
        assert [(row["projection"], row["reason"]) for row in frame["rows"]] == [("cash", "why")]
        database.execute(f"{halt} partition = 3", (None,))
        assert feed.hear()["rows"] == []


def test_positions_of_anything_else_get_a_snapshot(shared: Served) -> None:
    shared.write([made.open_account("T1"), made.define("AAPL"), made.deal("t1", "T1", "d1")])
    with shared.socket() as feed:
        feed.subscribe(1, "deals", "T1")
        position = feed.hear(lambda frame: bool(frame["rows"]))["position"]
        stamp, _, places = position.partition(".")
        partition = places.partition(":")[0]
        others = ("nonsense", "3:1042", f"{stamp}.{partition}:99999", f"{stamp}.99:1", "x" * 4000)
        for number, other in enumerate(others):
            feed.subscribe(f"other {number}", "deals", "T1", **{"from": other})
            assert feed.hear()["op"] == "snapshot"
        feed.subscribe("another topic", "positions", "T1", **{"from": position})
        assert feed.hear()["op"] == "snapshot"
        feed.subscribe("the same", "deals", "T1", **{"from": position})
        frame = feed.hear()
        assert (frame["op"], frame["previous"], frame["rows"]) == ("delta", position, [])
        feed.say({"op": "unsubscribe", "id": "the same"})
        feed.subscribe("the same", "deals", "T1")
        assert feed.hear()["op"] == "snapshot"


def test_a_read_model_filled_anew_goes_on_where_it_was(shared: Served) -> None:
    shared.write([made.open_account("R1"), made.define("AAPL"), made.deal("r1", "R1", "d1")])
    with shared.socket() as feed, Client(shared.url) as client:
        feed.subscribe(1, "positions", "R1")
        at, rows = feed.hear(lambda frame: bool(frame["rows"]))["position"], []
        shared.daybook.good("rebuild", "positions")
        client.record_deal("R1", instrument="NEW", side="buy", quantity=1, price=1, currency="USD")
        while not any(row["instrument"] == "NEW" for row in rows):
            frame = feed.hear()
            assert (frame["op"], frame["previous"]) == ("delta", at)
            at, rows = frame["position"], frame["rows"]


def test_a_mark_is_the_one_current_when_its_row_is_sent(shared: Served) -> None:
    with Client(shared.url) as client, shared.socket() as feed:
        told = {"side": "buy", "quantity": 1, "price": 1, "currency": "USD"}
        client.record_deal("M1", instrument="MRK", **told)
        shared.write([made.price("p1", "MRK", "7.25")])
        feed.subscribe(1, "positions", "M1")
        first = feed.hear(lambda frame: bool(frame["rows"]))
        shared.write([made.price("p2", "MRK", "8.5")])
        while Decimal("8.5") not in {row["price"] for row in client.prices().rows()}:
            time.sleep(0.05)
        client.record_deal("M1", instrument="MRK", **told)
        second = feed.hear(lambda frame: bool(frame["rows"]) and frame != first)
        assert second["rows"][0]["mark"] == "8.5"
        assert second["rows"][0]["market_value"] == "17.0"


# --- what clients get wrong ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "kind", "about"),
    [
        ("nonsense", "invalid-request", None),
        ('"text"', "invalid-request", None),
        ("[" * 50_000, "invalid-request", None),
        ({"op": "subscribe"}, "invalid-request", None),
        ({"op": "fly", "id": 7}, "invalid-request", 7),
        ({"op": "subscribe", "id": 1.5, "topic": "deals"}, "invalid-request", None),
        ({"op": "subscribe", "id": True, "topic": "deals"}, "invalid-request", None),
        ({"op": "subscribe", "id": 2**70, "topic": "deals"}, "invalid-request", None),
        ({"op": "subscribe", "id": "x" * 65, "topic": "deals"}, "invalid-request", None),
        ({"op": "subscribe", "id": 7, "topic": 1}, "invalid-request", 7),
        ({"op": "subscribe", "id": 7, "topic": "deals", "account": 3}, "invalid-request", 7),
        ({"op": "subscribe", "id": 7, "topic": "deals", "form": "1"}, "invalid-request", 7),
        ({"op": "subscribe", "id": 7, "topic": "deals", "from": 3}, "invalid-request", 7),
        ({"op": "subscribe", "id": 7, "topic": "weather"}, "unknown-topic", 7),
        ({"op": "subscribe", "id": 7, "topic": "alerts", "account": "A1"}, "invalid-request", 7),
        ({"op": "subscribe", "id": 7, "topic": "pnl", "account": "A1"}, "topic-not-yet", 7),
        ({"op": "subscribe", "id": 7, "topic": "risk"}, "topic-not-yet", 7),
        *(
            ({"op": "subscribe", "id": 7, "topic": topic, "account": name}, "unknown-account", 7)
            for topic, name in (("positions", "\0"), ("events", "a\0"), ("deals", " a"))
        ),
        ({"op": "unsubscribe", "id": 9}, "unknown-subscription", 9),
        (b"binary", "invalid-request", None),
    ],
)
def test_what_is_not_taken_is_told(shared: Served, told: Any, kind: str, about: Any) -> None:
    with shared.socket() as feed:
        feed.say(told)
        frame = feed.hear()
        assert (frame["op"], frame["id"]) == ("error", about)
        problem = frame["problem"]
        assert problem["type"] == f"urn:daybook:problem:{kind}"
        assert problem["detail"]
        feed.subscribe(1, "deals", "A1")
        assert feed.hear()["op"] == "snapshot"


def test_an_id_is_used_once_at_a_time(shared: Served) -> None:
    with shared.socket() as feed:
        for topic in ("deals", "orders"):
            feed.subscribe("x", topic, "A1")
        assert {feed.hear()["op"], feed.hear()["op"]} == {"snapshot", "error"}


def test_who_goes_on_being_wrong_is_sent_away(shared: Served) -> None:
    with shared.socket() as feed:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                feed.say("nonsense")
        with pytest.raises(ConnectionClosed) as closed:
            feed.hear(lambda _: False)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert "faulty frames" in closed.value.rcvd.reason


def test_who_says_too_much_at_once_is_sent_away(shared: Served) -> None:
    with shared.socket() as feed:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(20_000):
                feed.say({"op": "authenticate", "token": "any"})  # without keys, and unanswered
        with pytest.raises(ConnectionClosed) as closed:
            feed.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429


def test_a_frame_may_not_be_large(shared: Served) -> None:
    with shared.socket() as feed:
        feed.say("x" * 70_000)
        with pytest.raises(ConnectionClosed) as closed:
            feed.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_a_connection_has_so_many_subscriptions(shared: Served) -> None:
    with shared.socket() as feed:
        for number in range(1001):
            feed.subscribe(number, "balances", f"B{number % 7}")
        frame = feed.hear(lambda told: told["op"] == "error")
        assert frame["id"] == 1000
        assert frame["problem"]["type"] == "urn:daybook:problem:too-many-subscriptions"
        feed.say({"op": "unsubscribe", "id": 0})
        feed.subscribe("again", "balances", "B1")
        assert feed.hear(lambda told: told["id"] == "again")["op"] == "snapshot"


def test_a_page_of_another_site_is_refused(shared: Served) -> None:
    with pytest.raises(InvalidStatus) as refused, shared.socket(origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403


# --- who may see what ----------------------------------------------------------------------------


def test_tokens_bound_what_is_seen_and_for_how_long(new_daybook: NewDaybook) -> None:
    server = Served(new_daybook())
    trader = token(server, "trader", "1h", "A1")
    server.start()
    server.write([made.open_account("A1"), made.open_account("A2")])
    with pytest.raises(InvalidStatus) as refused, server.socket():
        pass
    assert refused.value.response.status_code == 401
    for bad in (trader + "x", "x"):
        with pytest.raises(InvalidStatus) as refused, server.socket(**bearer(bad)):
            pass
        assert refused.value.response.status_code == 401
    with server.socket(**bearer(trader)) as feed:
        feed.subscribe(1, "positions", "A1")
        assert feed.hear()["op"] == "snapshot"
        for told_id, account in ((2, "A2"), (3, "nobody's")):
            feed.subscribe(told_id, "positions", account)
            assert feed.hear()["problem"]["type"].endswith(":unknown-account")
        feed.subscribe(4, "events")
        assert feed.hear()["problem"]["type"].endswith(":forbidden")
        feed.say({"op": "authenticate", "token": token(server, "compliance", "1h")})
        assert feed.hear()["problem"]["type"].endswith(":unauthenticated")
        with pytest.raises(ConnectionClosed) as closed:
            _go_on_for_moments(server, feed)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401
    server.stop()


def _go_on_for_moments(server: Served, feed: Socket) -> None:
    for seconds in (1, 10, 60):  # a busy machine may take longer than that to tell it
        short = token(server, "trader", f"{seconds}s", "A1")
        feed.say({"op": "authenticate", "token": short})
        assert feed.hear()["problem"]["type"].endswith(":unauthenticated")


def test_a_token_may_be_followed_by_another_before_it_ends(new_daybook: NewDaybook) -> None:
    server, seconds = Served(new_daybook()), 3
    longer = token(server, "trader", "1h", "A2")
    server.start()
    server.write([made.open_account("A1"), made.open_account("A2")])
    while not _outlives(server, seconds, longer):
        seconds *= 3  # it took longer than that to tell the other: a busy machine
    server.stop()


def _outlives(server: Served, seconds: int, longer: str) -> bool:
    """Tell whether a feed went on with a longer token, or its first had ended before it came."""
    offered = ["daybook.v1", f"bearer.{token(server, 'trader', f'{seconds}s', 'A1')}"]
    ends = time.time() + seconds
    try:
        with server.socket(subprotocols=offered) as feed:
            assert feed.raw.subprotocol == "daybook.v1"
            feed.subscribe(1, "positions", "A1")
            assert feed.hear()["op"] == "snapshot"
            feed.say({"op": "authenticate", "token": longer})
            frame = feed.hear()
            assert (frame["id"], frame["op"]) == (1, "error")
            time.sleep(max(0.0, ends + 1 - time.time()))
            feed.subscribe(2, "positions", "A2")
            return feed.hear()["op"] == "snapshot"
    except (ConnectionClosed, InvalidStatus):
        assert time.time() > ends
        return False


def token(server: Served, role: str, expires: str, *accounts: str) -> str:
    """Return a token as `daybook token` prints it."""
    return signed(server.daybook.home, role, expires=expires, accounts=accounts)


def bearer(told: str) -> dict[str, Any]:
    """Return what sends a token along."""
    return {"additional_headers": {"Authorization": f"Bearer {told}"}}
