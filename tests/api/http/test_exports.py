"""Whole tables: one state from first row to last, and a place given back however it ends."""

import asyncio
import io
import threading
from datetime import datetime
from typing import Any

import httpx
import pyarrow as pa
import pytest

from api.http.formats import whole
from api.http.limits import Places
from api.http.problems import OVERLOADED, RATE_LIMITED, Problem
from api.http.security import LOCAL
from api.http.services import MOST_EXPORTS
from tests.api.http.server import TIME, Server, cash, deal, read_at

_ROWS = 1_500


@pytest.fixture(scope="module")
def long_table(api: httpx.Client) -> str:
    """The path of a table with some rows."""
    commands = []
    for number in range(_ROWS):
        data = cash("E1", f"C{number:05}", f"{number}.5")
        about = {name: data.pop(name) for name in ("account", "event_time")}
        commands.append({"command_id": f"e{number}", "type": "MoveCash", **about, "data": data})
    assert api.post("/v1/commands", json=commands).status_code == 200
    return "/v1/accounts/E1/cash"


def test_an_export_is_one_state_while_rows_are_added(
    api: httpx.Client, long_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.exporting._ROWS", 100)
    with api.stream("GET", long_table, params={"format": "csv"}) as answer:
        pieces = answer.iter_bytes(1_000)
        text = next(pieces)
        added = api.post("/v1/cash", json=cash("E1", "C00000a"))
        read_at(api, "/v1/accounts/E1/balances", added.headers["Daybook-Position"])
        text += b"".join(pieces)
    assert text.count(b"\n") == _ROWS + 1
    assert b"C00000a" not in text


def test_a_client_that_leaves_gives_its_place_back(
    open_server: Server, api: httpx.Client, long_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.exporting._ROWS", 1)
    for _ in range(MOST_EXPORTS * 2):
        with api.stream("GET", long_table, params={"format": "csv"}) as answer:
            assert answer.status_code == 200
            next(answer.iter_raw(100))
    monkeypatch.undo()
    assert api.get(long_table, params={"format": "csv"}).text.count("\n") >= _ROWS


def test_more_exports_than_may_run_are_told_to_come_again(
    open_server: Server, api: httpx.Client, long_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_server.services, "export_places", Places("exports", 0))
    monkeypatch.setattr("api.http.services.EXPORT_WAIT_S", 0.0)
    answer = api.get(long_table, params={"format": "arrow"})
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:daybook:problem:overloaded"
    assert answer.headers["Retry-After"]


def test_one_principal_leaves_places_to_others() -> None:
    places = Places("exports", 3)
    give_back, _ = [places.take("ann", 2) for _ in range(2)]
    with pytest.raises(Problem) as refused:
        places.take("ann", 2)
    assert refused.value.kind is RATE_LIMITED
    places.take("bob", 2)
    with pytest.raises(Problem) as refused:
        places.take("bob", 2)
    assert refused.value.kind is OVERLOADED
    give_back()
    places.take("bob", 2)


def test_a_place_is_waited_for_until_one_is_given_back() -> None:
    async def take() -> None:
        places = Places("exports", 2)
        give_back = places.take("ann", 1)
        waiting = [asyncio.create_task(places.wait("ann", 1, 60)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        while waiting:
            give_back()
            (done,), left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            give_back, waiting = done.result(), list(left)
        with pytest.raises(Problem) as refused:
            await places.wait("ann", 1, 0.01)
        assert refused.value.kind is RATE_LIMITED
        assert "Retry-After" in refused.value.response().headers

    asyncio.run(take())


def test_only_tokens_tell_principals_apart(
    open_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take() -> None:
        services = open_server.services
        taken = [await services.export_place(LOCAL) for _ in range(MOST_EXPORTS)]
        with pytest.raises(Problem) as refused:
            await services.export_place(LOCAL)
        assert refused.value.kind is OVERLOADED
        for give_back in taken:
            give_back()

    monkeypatch.setattr(open_server.services, "export_places", Places("exports", MOST_EXPORTS))
    monkeypatch.setattr("api.http.services.EXPORT_WAIT_S", 0.0)
    asyncio.run(take())


def test_a_client_that_takes_too_long_over_it_all_is_dropped(
    open_server: Server, api: httpx.Client, long_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.exporting._ROWS", 100)
    monkeypatch.setattr("api.http.exporting.READING_S", -1.0)
    monkeypatch.setattr(open_server.services, "export_places", Places("exports", 1))
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            read_at(api, long_table, "0:0", format="csv")
    monkeypatch.setattr("api.http.exporting.READING_S", 600.0)
    assert api.get(long_table, params={"format": "csv"}).text.count("\n") >= _ROWS


def test_arrow_holds_what_json_holds(api: httpx.Client) -> None:
    odd: list[dict[str, Any]] = [
        deal("E2", "D1", price="0.000000000000000001", quantity="123456789012345678"),
        deal("E2", "D2", price="1.50", tags=["a,b", 'c"d', "line\nbreak"], strategy="null"),
        deal("E2", "D3", net="-5.875184563", price=None, venue='"quoted", and more'),
        deal(
            "E2",
            "D4",
            strategy="é\\N\t",
            ids={"exec": "x"},
            event_time="1999-12-31T23:59:59.000000001Z",
        ),
    ]
    for body in odd:
        answer = api.post("/v1/deals", json={k: v for k, v in body.items() if v is not None})
        assert answer.status_code == 201, answer.text
    rows = api.get("/v1/accounts/E2/deals").json()["data"]
    streamed = api.get("/v1/accounts/E2/deals", params={"format": "arrow"}).content
    paged = api.get("/v1/accounts/E2/deals", params={"format": "arrow", "limit": 100}).content
    for content in (streamed, paged):
        found = pa.ipc.open_stream(io.BytesIO(content)).read_all()
        for name in ("deal_id", "strategy", "venue", "order_id", "trade_date"):
            assert found[name].to_pylist() == [row[name] for row in rows], name
        for name in ("price", "quantity", "net"):
            told = [None if row[name] is None else pa.scalar(row[name]) for row in rows]
            exact = [None if one is None else format(one, "f") for one in found[name].to_pylist()]
            assert [None if one is None else float(one.as_py()) for one in told] == [
                None if one is None else float(one) for one in exact
            ], name
        times = [one.as_py() for one in found["event_time"].cast(pa.int64())]
        assert times[3] == 946_684_799_000_000_001
        assert [one is None for one in found["tags"].to_pylist()] == [
            row["tags"] is None for row in rows
        ]


def test_a_past_table_is_exported_too(api: httpx.Client, long_table: str) -> None:
    told = {"as_of": TIME, "format": "arrow"}
    found = pa.ipc.open_stream(api.get(long_table, params=told).content).read_all()
    assert found.num_rows >= _ROWS
    early = api.get(long_table, params=told | {"as_of": "2023-01-01"}).content
    assert pa.ipc.open_stream(early).read_all().num_rows == 0


def _price(command_id: str, price: str, **about: str) -> dict[str, Any]:
    told = {"command_id": command_id, "type": "RecordPrice", "key": "EXP", "event_time": TIME}
    return {**told, **about, "data": {"price": price, "currency": "USD"}}


def test_what_the_asker_has_is_sent_again_once_anything_shown_has_changed(
    api: httpx.Client,
) -> None:
    assert api.post("/v1/deals", json=deal("E3", "D1", instrument="EXP")).status_code == 201
    told = {"account": "E3", "event_time": TIME, "portfolio": "exported"}
    assert api.post("/v1/accounts", json=told).status_code == 201
    for path in ("/v1/accounts/E3/positions", "/v1/portfolios/exported/positions"):
        asked = {"format": "csv"}
        first = api.get(path, params=asked)
        same = {"If-None-Match": first.headers["ETag"]}
        assert api.get(path, params=asked, headers=same).status_code == 304
        priced = _price(f"price of {path}", str(len(path)))
        assert api.post("/v1/commands", json=priced).status_code == 201
        second = api.get(path, params=asked, headers=same)
        assert second.status_code == 200
        assert f",{len(path)}," in second.text
    same = {"If-None-Match": second.headers["ETag"]}
    assert api.get(path, params=asked, headers=same).status_code == 304
    assert api.post("/v1/accounts", json=told | {"portfolio": "another"}).status_code == 201
    assert "E3" not in api.get(path, params=asked, headers=same).text


def test_the_date_is_in_the_tag_for_cash_settles_by_it(
    api: httpx.Client, long_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Tomorrow":
            return cls.fromtimestamp(datetime.now(tz).timestamp() + 86_400, tz)

    path = "/v1/accounts/E1/balances"
    first = api.get(path, params={"format": "csv"})
    same = {"If-None-Match": first.headers["ETag"]}
    monkeypatch.setattr("api.http.exporting.datetime", Tomorrow)
    assert api.get(path, params={"format": "csv"}, headers=same).status_code == 200


@pytest.mark.parametrize("chosen", ["csv", "arrow", "parquet"])
def test_what_may_still_change_is_said_in_every_format(
    api: httpx.Client, long_table: str, chosen: str
) -> None:
    told = {"format": chosen, "known_at": "2100-01-01T00:00:00Z"}
    early = api.get(long_table, params=told)
    assert early.headers["Daybook-Provisional"] == "true"
    told["known_at"] = early.headers["Daybook-Position"]
    assert "Daybook-Provisional" not in api.get(long_table, params=told).headers
    assert "Daybook-Provisional" not in api.get(long_table, params={"format": chosen}).headers


def test_a_large_page_is_packed_beside_the_loop_that_answers(
    api: httpx.Client, long_table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed_in: list[str] = []

    def noted(*told: Any) -> Any:
        packed_in.append(threading.current_thread().name)
        return whole(*told)

    monkeypatch.setattr("api.http.reading.whole", noted)
    asked = {"limit": str(_ROWS)}
    packed = api.get(long_table, params=asked, headers={"Accept-Encoding": "gzip"})
    plain = api.get(long_table, params=asked, headers={"Accept-Encoding": "identity"})
    api.get(long_table, params={"limit": "1"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.content == plain.content
    # The loop's own thread is the one that answers what is small.
    *large, loop = packed_in
    assert len(large) == 2
    assert loop not in large
