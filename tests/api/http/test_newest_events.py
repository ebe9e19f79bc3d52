"""Events of an account: the newest first, and those that had happened by a time."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.questions import Asker
from schemas.envelope import Record
from streams.postgres_log import PostgresLog
from tests.api.http.server import cash, deal, order


def asked(api: httpx.Client, **params: Any) -> dict[str, Any]:
    answer = api.get("/v1/events", params={"account": "N1", **params})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module", autouse=True)
def book(api: httpx.Client) -> None:
    """Record deals of three days, a bust of the first, and cash of the fourth day."""
    for day in (2, 3, 4):
        time = f"2024-01-0{day}T15:00:00Z"
        body = deal("N1", f"D{day}", event_time=time, instrument=f"I{day % 2}")
        assert api.post("/v1/deals", json=body).status_code == 201
    bust = {"account": "N1", "event_time": "2024-01-05T09:00:00Z"}
    assert api.post("/v1/deals/D2/bust", json=bust).status_code == 201
    late = {**cash("N1", "C5"), "event_time": "2024-01-05T12:00:00Z"}
    assert api.post("/v1/cash", json=late).status_code == 201


def test_the_newest_events_are_asked_for(api: httpx.Client) -> None:
    everything = asked(api)
    newest = asked(api, newest="true")
    assert newest["data"] == everything["data"][::-1]
    assert (newest["next"], newest["position"]) == (None, everything["position"])
    pages = [asked(api, newest="true", limit=2)]
    while (cursor := pages[-1]["next"]) is not None:
        pages.append(asked(api, newest="true", limit=2, cursor=cursor))
    assert [one for page in pages for one in page["data"]] == newest["data"]
    first = asked(api, newest="true", limit=1, instrument="I0")
    assert [one["type"] for one in first["data"]] == ["DealBusted"]
    second = asked(api, newest="true", limit=1, instrument="I0", cursor=first["next"])
    assert [one["data"]["deal_id"] for one in second["data"]] == ["D4"]


def test_a_page_reads_no_more_than_is_on_it(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, everything = PostgresLog.read_stream, asked(api)["data"]
    offsets: list[int] = []

    def counted(log: PostgresLog, *told: Any) -> Iterator[Record]:
        for record in read(log, *told):
            offsets.append(record.offset)
            yield record

    monkeypatch.setattr(PostgresLog, "read_stream", counted)
    monkeypatch.setattr("api.http.trail._AROUND", 2)
    for params, found in (({}, everything), ({"newest": "true"}, everything[::-1])):
        page = asked(api, limit=1, **params)
        for one in found[1:]:
            offsets.clear()
            page = asked(api, limit=1, cursor=page["next"], **params)
            assert page["data"] == [one]
            assert len(offsets) <= 3
        assert page["next"] is None


def test_events_that_had_happened_come_with_what_was_told_of_them_since(api: httpx.Client) -> None:
    def told(**params: Any) -> list[str]:
        events = asked(api, **params)["data"]
        return [one["data"].get("deal_id") or one["data"]["cash_id"] for one in events]

    bust = next(one for one in asked(api)["data"] if one["type"] == "DealBusted")
    busted = bust["data"]["deal_id"]
    assert told(as_of="2024-01-03", currency="USD") == ["D2", "D3", busted]
    assert told(as_of="2024-01-02T15:00:00Z", instrument="I0") == ["D2", busted]
    assert told(as_of="2024-01-04", instrument="I0", newest="true") == [busted, "D4", "D2"]
    assert told(as_of="2024-01-03", deal="D4") == []
    (deal_before,) = (one for one in asked(api)["data"] if one["data"].get("deal_id") == "D4")
    assert told(as_of="2024-01-02", deal="D2", known_at=deal_before["position"]) == ["D2"]


@pytest.fixture(scope="module")
def abroad(api: httpx.Client) -> str:
    """Record an order of the evening of 4 January in New York, which is the 5th in UTC."""
    about = {"account": "N2", "event_time": "2024-01-01T00:00:00Z"}
    zone = {"base_currency": "USD", "time_zone": "America/New_York"}
    assert api.post("/v1/accounts", json=about | zone).status_code == 201
    placed = order("N2", "O1", event_time="2024-01-05T01:00:00Z")
    assert api.post("/v1/orders", json=placed).status_code == 201
    return "N2"


def test_dates_of_one_question_are_of_one_zone(api: httpx.Client) -> None:
    placed = order("N3", "O1", event_time="2024-01-03T23:30:00Z")
    assert api.post("/v1/orders", json=placed).status_code == 201
    about = {"account": "N3", "event_time": "2024-01-10T00:00:00Z"}
    zone = {"base_currency": "USD", "time_zone": "Asia/Tokyo"}
    found = api.get("/v1/events", params={"account": "N3"}).json()["data"]
    assert api.post("/v1/accounts", json=about | zone).status_code == 201
    for then, day in (({}, "2024-01-04"), ({"known_at": found[-1]["position"]}, "2024-01-03")):
        for asked_by in ({"from": day, "to": day}, {"from": day, "as_of": day}):
            told = [one["type"] for one in asked(api, account="N3", **asked_by, **then)["data"]]
            assert "OrderPlaced" in told, (asked_by, then)
    told = [one["type"] for one in asked(api, account="N3", as_of="2024-01-03")["data"]]
    assert "OrderPlaced" not in told


@pytest.fixture(scope="module")
def tokyo(api: httpx.Client) -> str:
    """Record a price of the morning of 4 January in Tokyo, which is the 3rd in UTC."""
    at = {"key": "TK", "event_time": "2024-01-03T23:30:00Z"}
    zoned = {"kind": "equity", "currency": "JPY", "time_zone": "Asia/Tokyo"}
    priced = {"price": "100", "currency": "JPY"}
    commands = [
        {"command_id": "tk", "type": "DefineInstrument", **at, "data": zoned},
        {"command_id": "tkp", "type": "RecordPrice", **at, "data": priced},
    ]
    for command in commands:
        assert api.post("/v1/commands", json=command).status_code == 201
    return "TK"


def test_prices_are_of_the_dates_of_their_instruments(api: httpx.Client, tokyo: str) -> None:
    for bounds, count in (
        ({"from": "2024-01-04"}, 1),
        ({"to": "2024-01-03"}, 0),
        ({"as_of": "2024-01-03"}, 0),
    ):
        rows = api.get("/v1/prices", params={"instrument": tokyo, **bounds}).json()["data"]
        for more in ({}, {"account": tokyo}):
            found = every_page(api, topic="prices", **bounds, **more)
            told = [one for one in found if one["type"] != "LogCreated"]
            assert len(rows) == len(told) == count, (bounds, more)


def test_times_do_not_take_the_zones_of_all_instruments(
    api: httpx.Client, tokyo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked_for(*_: object) -> dict[str, str]:
        raise AssertionError("zones were asked for")

    monkeypatch.setattr(Asker, "_zones_of", asked_for)
    moment = "2100-01-01T00:00:00Z"
    for bounds in ({"as_of": moment}, {"from": "2000-01-01T00:00:00Z", "to": moment}):
        answer = api.get("/v1/prices", params={"known_at": moment, **bounds})
        assert [one["instrument"] for one in answer.json()["data"]] == [tokyo]


def every_page(api: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    """Return the events of all pages."""
    answer = api.get("/v1/events", params={"limit": 2, **params})
    assert answer.status_code == 200, answer.text
    page = answer.json()
    if page["next"] is None:
        return list(page["data"])
    return [*page["data"], *every_page(api, **params | {"cursor": page["next"]})]


def test_events_of_a_period_count_by_their_own_dates(api: httpx.Client, abroad: str) -> None:
    def types(**params: Any) -> list[str]:
        return [one["type"] for one in asked(api, account=abroad, **params)["data"]]

    placed = types(**{"from": "2024-01-02"})[0]
    assert types(**{"from": "2024-01-04", "to": "2024-01-04"}) == [placed]
    assert types(**{"from": "2024-01-05"}) == []
    assert types(**{"from": "2024-01-05T00:00:00Z", "newest": "true"}) == [placed]
    period = {"from": "2024-01-03", "to": "2024-01-05"}
    told = [one["data"].get("deal_id") for one in asked(api, instrument="I0", **period)["data"]]
    bust = next(one for one in asked(api)["data"] if one["type"] == "DealBusted")
    assert told == [bust["data"]["deal_id"], "D4"] or told == ["D4", bust["data"]["deal_id"]]


@pytest.mark.parametrize("looked_through", [3, 10_000])
def test_the_whole_log_is_asked_by_times(
    api: httpx.Client, abroad: str, looked_through: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.trail._LOOKED_THROUGH", looked_through)
    everything = [one for one in every_page(api) if one.get("account") in ("N1", abroad)]
    period = {"from": "2024-01-03", "to": "2024-01-04"}
    alone = [one for name in ("N1", abroad) for one in asked(api, account=name, **period)["data"]]
    found = [one for one in every_page(api, **period) if one.get("account") in ("N1", abroad)]
    assert sorted(one["id"] for one in found) == sorted(one["id"] for one in alone)
    assert len(found) == 3
    found = every_page(api, as_of="2024-01-02")
    kept = {one["id"] for one in found}
    by_type = {one["id"]: one["type"] for one in everything}
    left_out = sorted(by_type[one["id"]] for one in everything if one["id"] not in kept)
    assert left_out == ["CashMoved", "DealRecorded", "DealRecorded", "OrderPlaced"]


def test_what_was_known_of_the_whole_log_ends_there(api: httpx.Client) -> None:
    second = asked(api)["data"][1]["position"]
    partition, offset = second.split(":")
    for limit in (1, 2, 10_000):
        found = every_page(api, known_at=second, limit=limit)
        assert {one["position"].split(":")[0] for one in found} == {partition}
        assert len(found) == int(offset) + 1


def test_the_newest_are_those_of_one_account(api: httpx.Client) -> None:
    for params, field in (
        ({"newest": "true"}, "account"),
        ({"account": "N1", "topic": "prices", "newest": "true"}, "account"),
        ({"account": "N1", "newest": "true", "after": "0:1"}, "after"),
        ({"account": "N1", "newest": "yes"}, "newest"),
    ):
        answer = api.get("/v1/events", params=params)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert api.get("/v1/events", params={"account": "N99", "newest": "true"}).status_code == 404
