"""The client against a real server: commands, tables and what it makes of faults."""

import asyncio
import inspect
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from daybook_client import (
    AsyncClient,
    Client,
    Conflict,
    FeedGap,
    Invalid,
    LocalTable,
    NotFound,
    ProblemError,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
    Update,
)
from daybook_client.feed import Again, Subscription
from daybook_client.local import KEYS
from daybook_client.requests import answer_of, attempts, driven
from daybook_client.rows import DECIMALS
from daybook_client.tables import Tables

from api.http.feed.sources import SOURCES
from api.read_models import READ_MODELS
from tests.api.client.conftest import PACKAGE
from tests.api.http.feed.serving import Served
from tests.beside import beside

DEAL: dict[str, Any] = {"instrument": "AAPL", "side": "buy", "quantity": 10, "currency": "USD"}
WHEN = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    """A client of the server."""
    with Client(served.url) as made:
        yield made


def test_a_command_is_booked_once_whatever_its_key_is_told(client: Client) -> None:
    first = client.record_deal("A1", price="185.5", key="k1", event_time=WHEN, **DEAL)
    again = client.record_deal("A1", price=Decimal("185.50"), key="k1", event_time=WHEN, **DEAL)
    assert (first.status, first.event, first.replayed) == ("accepted", "DealRecorded", False)
    assert (again.position, again.replayed) == (first.position, True)
    with pytest.raises(Conflict):
        client.record_deal("A1", price="186", key="k1", event_time=WHEN, **DEAL)
    with pytest.raises(Conflict):  # the deal's own id, which was the key
        client.record_deal("A1", price="186", deal_id="k1", event_time=WHEN, **DEAL)


def test_a_key_of_any_script_is_the_commands_id(client: Client) -> None:
    deal = client.record_deal("A1", price=1, key="käse", event_time=WHEN, **DEAL)
    assert deal.command_id == "käse"
    deposit = {"cash_id": "c", "kind": "deposit", "amount": "5", "currency": "USD"}
    told = {"type": "MoveCash", "account": "A1", "command_id": "日本", "data": deposit}
    one = client.submit(told | {"event_time": WHEN})
    (again,) = client.submit_all([told | {"event_time": WHEN}])
    assert (one.status, again.status) == ("accepted", "duplicate")
    assert again.position == one.position


def test_what_was_written_is_read(client: Client) -> None:
    answer = client.record_deal("A2", price="100.25", **DEAL)
    (row,) = client.positions("A2", min_position=answer.position).rows()
    assert row["quantity"] == 10
    assert row["cost_basis"] == Decimal("1002.50")
    order = client.place_order("A2", instrument="AAPL", side="buy", quantity=1, order_id="2/o1")
    assert order.event == "OrderPlaced"
    canceled = client.cancel_order("A2", "2/o1")
    assert canceled.event == "OrderCancelRequested"
    (placed,) = client.orders("A2", min_position=canceled.position).rows()
    assert placed["order_id"] == "2/o1"
    sent = client.send_transfer("A2", "A3", cash=[{"currency": "USD", "amount": "5"}])
    assert sent.event == "TransferSent"


def test_an_account_keeps_what_is_not_told(client: Client) -> None:
    client.open_account("A7", base_currency="EUR", method="lifo")
    client.open_account("A7", portfolio="desk")
    opened = client.open_account("A8")
    told = client.accounts(min_position=opened.position).rows()
    found = {
        row["account"]: (row["base_currency"], row["method"], row["portfolio"]) for row in told
    }
    assert (found["A7"], found["A8"]) == (("EUR", "lifo", "desk"), ("USD", "fifo", None))


def test_orders_and_deals_are_amended(client: Client) -> None:
    terms = DEAL | {"quantity": 10}
    client.place_order("A9", order_id="O1", order_type="limit", limit_price="10", **terms_of(terms))
    replaced = client.replace_order("A9", "O1", quantity=20, limit_price="11")
    assert replaced.event == "OrderReplaceRequested"
    client.record_deal("A9", deal_id="D1", price="10", **terms)
    corrected = client.correct_deal("A9", "D1", deal_id="D2", price="11", **terms)
    assert corrected.event == "DealCorrected"
    (row,) = client.deals("A9", min_position=corrected.position).rows()
    assert (row["deal_id"], row["status"], row["price"]) == ("D1", "corrected", Decimal(11))
    busted = client.bust_deal("A9", "D2")
    assert busted.event == "DealBusted"
    (row,) = client.deals("A9", min_position=busted.position).rows()
    assert row["status"] == "busted"
    assert client.positions("A9", open_only=True).rows() == []
    (order,) = client.orders("A9", min_position=busted.position).rows()
    assert order["status"] == "pending_replace"


def terms_of(deal: dict[str, Any]) -> dict[str, Any]:
    """Return the terms that an order has of a deal's."""
    return {name: value for name, value in deal.items() if name != "currency"}


def test_facts_of_a_period_are_asked_for(client: Client) -> None:
    for day in (1, 2, 3):
        when = datetime(2024, 1, day, 12, tzinfo=UTC)
        client.place_order("A10", order_id=f"O{day}", event_time=when, **terms_of(DEAL))
        answer = client.move_cash(
            "A10", cash_id=f"C{day}", kind="deposit", amount=1, currency="USD", event_time=when
        )
    told = {"since": date(2024, 1, 2), "until": WHEN, "min_position": answer.position}
    assert [row["order_id"] for row in client.orders("A10", **told).rows()] == ["O2"]
    assert [row["cash_id"] for row in client.cash("A10", **told).rows()] == ["C2"]
    assert client.movements("A10", **told).rows() == []
    (past,) = client.balances("A10", as_of="2024-01-02").rows()
    assert past["balance"] == 2
    assert client.prices(instrument="AAPL", known_at=answer.position).rows() == []
    assert client.instruments(instrument="AAPL", as_of="2024-01-02").rows()


def test_every_question_of_the_server_can_be_asked(served: Served) -> None:
    document = httpx.get(f"{served.url}/openapi.json").json()
    renamed = {"from": "since", "to": "until", "open": "open_only"}
    elsewhere = {"limit", "cursor", "format"}  # in what the table is fetched as
    for name in READ_MODELS:
        places = [f"/v1/{name}", f"/v1/accounts/{{account}}/{name}"]
        (path,) = (one for one in places if "get" in document["paths"].get(one, {}))
        operation = document["paths"][path]["get"]
        told = {one["name"] for one in operation["parameters"]} - elsewhere
        owner = {"portfolio"} if name == "positions" else set[str]()
        taken = set(inspect.signature(getattr(Tables, name)).parameters) - {"self"}
        assert taken == {renamed.get(one, one) for one in told} | owner, name


def test_each_form_of_a_table_holds_the_same(client: Client) -> None:
    for number, price in enumerate(("10.5", "11.25", "12")):
        answer = client.record_deal("A4", price=price, deal_id=f"f{number}", **DEAL)
    table = client.deals("A4", min_position=answer.position)
    rows = table.rows()
    assert [row["price"] for row in rows] == [Decimal("10.5"), Decimal("11.25"), Decimal(12)]
    assert table.arrow().column("price").to_pylist() == [row["price"] for row in rows]
    assert list(table.pandas()["price"]) == [row["price"] for row in rows]
    assert list(table.pandas(decimals=True)["price"]) == [row["price"] for row in rows]
    assert table.polars()["price"].to_list() == [row["price"] for row in rows]
    assert client.deals("A4", known_at=datetime(2020, 1, 1, tzinfo=UTC)).rows() == []


def test_faults_are_typed(client: Client) -> None:
    with pytest.raises(Refused) as refused:
        client.cancel_order("A1", "nope/1")
    assert refused.value.reason == "unknown_order"
    with pytest.raises(Invalid, match="side"):
        client.record_deal("A1", price=1, **(DEAL | {"side": "sideways"}))
    with pytest.raises(NotFound):
        client.deals("nobody").rows()
    with pytest.raises(TypeError, match="float"):
        client.record_deal("A1", price=1.5, **DEAL)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no time zone"):
        client.record_deal("A1", price=1, event_time=datetime(2024, 1, 1), **DEAL)  # noqa: DTZ001
    with pytest.raises(ProblemError) as later:
        next(client.feed("pnl", "A1"))
    assert later.value.kind == "topic-not-yet"


def test_lists_are_answered_one_by_one(client: Client) -> None:
    deposit = {"cash_id": "c1", "kind": "deposit", "amount": "5", "currency": "USD"}
    answers = client.submit_all(
        [{"type": "MoveCash", "account": "A5", "data": deposit}, {"type": "Nonsense"}]
    )
    assert [one.status for one in answers] == ["accepted", "refused"]


def test_the_asynchronous_client_does_the_same(served: Served) -> None:
    async def run() -> None:
        async with AsyncClient(served.url) as client:
            answer = await client.move_cash("A6", kind="deposit", amount="7.5", currency="USD")
            (row,) = await client.balances("A6", min_position=answer.position).rows()
            assert row["balance"] == Decimal("7.5")
            assert (await client.cash("A6").arrow()).num_rows == 1
            table = LocalTable("balances")
            feed = client.feed("balances", "A6")
            async for update in feed:
                table.apply(update)
                if len(table) == 1:
                    break
            await feed.aclose()
            assert table["A6", "USD"]["settled"] == Decimal("7.5")

    asyncio.run(run())


# --- a server that fails -------------------------------------------------------------------------


class Failing(BaseHTTPRequestHandler):
    """Fails a few times: by a broken connection, by 503; then accepts."""

    keys: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.keys.append(self.headers["Idempotency-Key"])
        self.rfile.read(int(self.headers["Content-Length"]))
        if len(self.keys) == 1:
            self.close_connection = True
            return
        told = b'{"command_id":"c","status":"accepted","position":"1:1","event":"E","reason":null}'
        self.send_response(503 if len(self.keys) == 2 else 201)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_a_command_is_sent_again_with_the_same_key() -> None:
    with HTTPServer(("127.0.0.1", 0), Failing) as server, beside(server.serve_forever):
        try:
            with Client(f"http://127.0.0.1:{server.server_port}") as client:
                assert client.open_account("A1").status == "accepted"
        finally:
            server.shutdown()
    assert len(Failing.keys) == 3
    assert len(set(Failing.keys)) == 1


def test_a_server_that_is_not_there_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daybook_client.requests.ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(Unavailable):
        client.accounts().rows()


@pytest.mark.parametrize(
    ("status", "kind", "waits"),
    [(429, RateLimited, [3.0] * 5), (503, Unavailable, [3.0] * 5), (401, Unauthenticated, [])],
)
def test_who_is_told_to_wait_waits_so_long_and_then_hears_why(
    status: int, kind: type[ProblemError], waits: list[float]
) -> None:
    waited: list[float] = []

    def do(step: httpx.Request | float) -> httpx.Response | None:
        if isinstance(step, float):
            waited.append(step)
            return None
        told = {"title": "why", "detail": "so"}
        return httpx.Response(status, headers={"Retry-After": "3"}, json=told)

    with pytest.raises(kind, match=f"{status} why: so"):
        answer_of(driven(attempts(lambda: httpx.Request("GET", "http://x/")), do))
    assert waited == waits


# --- what is missed ------------------------------------------------------------------------------


def frame(op: str, number: int, position: str, **told: Any) -> str:
    return json.dumps({"op": op, "id": number, "position": position, "rows": [], **told})


def test_a_gap_is_asked_for_again_and_then_an_error() -> None:
    subscription = Subscription("deals", "A1", None)
    assert json.loads(subscription.begin()).get("from") is None
    assert isinstance(subscription.take(frame("snapshot", 1, "a")), Update)
    told = subscription.take(frame("delta", 1, "b", previous="a", removed=[]))
    assert isinstance(told, Update)
    assert isinstance(subscription.take(frame("delta", 1, "d", previous="c", removed=[])), Again)
    ended, begun = map(json.loads, subscription.again())
    assert ended == {"op": "unsubscribe", "id": 1}
    assert (begun["op"], begun["id"], begun["from"]) == ("subscribe", 2, "b")
    assert subscription.take(frame("delta", 1, "e", previous="d", removed=[])) is None
    with pytest.raises(FeedGap):
        subscription.take(frame("delta", 2, "e", previous="d", removed=[]))


def test_a_local_table_takes_nothing_that_does_not_follow() -> None:
    table = LocalTable("alerts")
    table.apply(Update(True, "a", [{"alert": "x"}, {"alert": "y"}]))
    table.apply(Update(False, "b", [{"alert": "z"}], "a", ({"alert": "x"},)))
    assert [row["alert"] for row in table.rows()] == ["y", "z"]
    with pytest.raises(FeedGap):
        table.apply(Update(False, "d", [], "c"))


# --- the package ---------------------------------------------------------------------------------


def test_it_knows_the_servers_columns() -> None:
    decimals = {
        name: frozenset(column for column, kind in model.columns if kind == "decimal")
        for name, model in READ_MODELS.items()
    }
    assert decimals == DECIMALS
    assert {topic: source.key for topic, source in SOURCES.items()} == {
        topic: key for topic, key in KEYS.items() if topic != "alerts"
    }


def test_it_is_light_and_knows_nothing_of_the_ledger() -> None:
    code = "import sys, daybook_client; print(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE, capture_output=True, check=True, text=True
    )
    loaded = {name.partition(".")[0] for name in told.stdout.split()}
    ours = ("api", "domain", "schemas", "projections", "infra", "streams")
    assert loaded.isdisjoint({*ours, "pyarrow", "pandas", "polars", "msgspec", "psycopg"})


def test_its_wheel_has_the_package_and_its_types(tmp_path: Path) -> None:
    import zipfile

    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(PACKAGE)).build(directory=str(tmp_path))
    names = zipfile.ZipFile(wheel).namelist()
    sources = {f"daybook_client/{path.name}" for path in (PACKAGE / "daybook_client").glob("*.py")}
    assert sources | {"daybook_client/py.typed"} <= set(names)
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {
        "daybook_client"
    }
