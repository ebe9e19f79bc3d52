"""Events by what they are about: all that made a number, also what names it in a roundabout way."""

from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.api.http.server import TIME, cash, deal, order


@pytest.fixture(scope="module")
def booked(api: httpx.Client) -> str:
    """An account with facts of two instruments, each of them amended, and what they came to."""
    about = {"account": "EA", "event_time": TIME}
    legs = [{"instrument": "I1", "quantity": "1", "currency": "USD"}]
    fees = [{"kind": "commission", "amount": "1", "currency": "USD"}]
    transfer = {"to_account": "EB", "transfer_id": "T1"}
    for path, body in (
        ("/v1/accounts", about | {"account": "EB"}),
        ("/v1/deals", deal("EA", "D1", instrument="I1")),
        ("/v1/deals", deal("EA", "X1", instrument="I2")),
        ("/v1/deals/D1/correct", deal("EA", "D2", instrument="I1", price="180")),
        ("/v1/commands", _command("RecordFees", fee_id="F1", deal_id="D2", fees=fees)),
        ("/v1/deals/X1/bust", about | {"deal_id": "X2"}),
        ("/v1/deals/D2/bust", about | {"deal_id": "D3"}),
        ("/v1/cash", cash("EA", "D1") | {"currency": "EUR"}),
        ("/v1/cash", cash("EA", "C2") | {"currency": "CHF"}),
        ("/v1/commands", _command("ReverseCash", cash_id="C3", ref_cash_id="D1")),
        ("/v1/commands", _command("MovePosition", movement_id="M1", reason="opening", legs=legs)),
        ("/v1/commands", _command("ReversePositionMove", movement_id="M2", ref_movement_id="M1")),
        ("/v1/transfers", about | transfer | {"cash": [{"currency": "EUR", "amount": "5"}]}),
    ):
        answer = api.post(path, json=body)
        assert answer.status_code == 201, answer.text
    return "EA"


def _command(kind: str, **data: Any) -> dict[str, Any]:
    about = {"command_id": kind, "type": kind, "account": "EA", "event_time": TIME}
    return about | {"data": data}


def told(api: httpx.Client, account: str, **params: Any) -> list[str]:
    """Return the types of the events that are about something, with whose they are."""
    found: list[str] = []
    params = {"account": account, "limit": 2, **params}
    while True:
        answer = api.get("/v1/events", params=params)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [_said(one) for one in page["data"]]
        if page["next"] is None:
            return found
        params["cursor"] = page["next"]


def _said(event: dict[str, Any]) -> str:
    data = event["data"]
    names = ("fee_id", "deal_id", "cash_id", "movement_id", "transfer_id")
    return f"{event['type']} {next(data[name] for name in names if name in data)}"


def test_what_amends_a_fact_comes_with_it(api: httpx.Client, booked: str) -> None:
    of_chain = ["DealRecorded D1", "DealCorrected D2", "FeesRecorded F1", "DealBusted D3"]
    moves = ["PositionMoved M1", "PositionMoveReversed M2"]
    assert told(api, booked, instrument="I1") == of_chain + moves
    assert told(api, booked, deal="D1") == of_chain
    assert told(api, booked, deal="D1", instrument="I1") == of_chain
    assert told(api, booked, instrument="I2") == ["DealRecorded X1", "DealBusted X2"]
    assert told(api, booked, deal="X1", instrument="I1") == []


def test_cash_in_legs_and_what_was_taken_back(api: httpx.Client, booked: str) -> None:
    # The deal of the same id as the movement of cash is another fact.
    euros = ["CashMoved D1", "CashReversed C3", "TransferSent T1"]
    assert told(api, booked, currency="EUR") == euros
    assert told(api, booked, currency="CHF") == ["CashMoved C2"]


def test_a_later_page_knows_what_was_on_the_first(api: httpx.Client, booked: str) -> None:
    page = api.get("/v1/events", params={"account": booked, "deal": "X1", "limit": 1}).json()
    assert [_said(one) for one in page["data"]] == ["DealRecorded X1"]
    params = {"account": booked, "instrument": "I2", "after": page["data"][0]["position"]}
    found = api.get("/v1/events", params=params).json()["data"]
    assert [_said(one) for one in found] == ["DealBusted X2"]


def _ids(api: httpx.Client, path: str, name: str, **params: str) -> list[str]:
    answer = api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return [row[name] for row in answer.json()["data"]]


def test_what_tells_no_date_is_of_the_date_that_it_was_where_its_account_is(
    api: httpx.Client,
) -> None:
    opened = {"account": "NY", "event_time": TIME, "time_zone": "America/New_York"}
    assert api.post("/v1/accounts", json=opened).status_code == 201
    # 20:00 of the 5th in New York, and half past nine of the 6th.
    for name, time in (("late", "2024-01-06T01:00:00Z"), ("next", "2024-01-06T14:30:00Z")):
        placed = order("NY", name) | {"event_time": time}
        assert api.post("/v1/orders", json=placed).status_code == 201
    known = api.get("/v1/accounts/NY/orders").json()["position"]
    path = "/v1/accounts/NY/orders"
    for told in ({}, {"known_at": known}):
        assert _ids(api, path, "order_id", as_of="2024-01-05", **told) == ["late"]
        assert _ids(api, path, "order_id", to="2024-01-05", **told) == ["late"]
        assert _ids(api, path, "order_id", **{"from": "2024-01-06"}, **told) == ["next"]
        exported = api.get(path, params={"to": "2024-01-05", "format": "csv", **told}).text
        assert [line.split(",")[1] for line in exported.splitlines()[1:]] == ["late"]
        columns = api.get(path, params={"to": "2024-01-05", "format": "arrow", **told}).content
        assert pa.ipc.open_stream(columns).read_all()["order_id"].to_pylist() == ["late"]
    events = api.get("/v1/events", params={"account": "NY", "as_of": "2024-01-05"}).json()["data"]
    assert [one["type"] for one in events] == ["AccountOpened", "OrderPlaced"]


def test_a_price_without_a_date_is_of_the_date_that_it_was_where_its_instrument_is(
    api: httpx.Client,
) -> None:
    about = {"type": "DefineInstrument", "key": "7203", "event_time": "2020-01-01T00:00:00Z"}
    commands = [
        about | {"command_id": "z1", "data": {"currency": "JPY", "time_zone": "Asia/Tokyo"}},
        *(
            about
            | {"command_id": time, "type": "RecordPrice", "event_time": time}
            | {"data": {"price": price, "currency": "JPY", "kind": kind}}
            for time, price, kind in (
                ("2024-01-05T06:00:00Z", "100", "close"),
                ("2024-01-05T23:30:00Z", "200", "last"),  # of the 6th in Tokyo
            )
        ),
    ]
    assert {one["status"] for one in api.post("/v1/commands", json=commands).json()} == {"accepted"}
    bought = deal("TK", "D1", instrument="7203", currency="JPY", price="90")
    done = api.post("/v1/deals", json=bought)
    assert done.status_code == 201, done.text
    positions = "/v1/accounts/TK/positions"
    known = api.get(positions).json()["position"]
    for told in ({}, {"known_at": known}):
        for day, prices in (("2024-01-05", ["100"]), ("2024-01-06", ["100", "200"])):
            for name in ("as_of", "to"):
                found = _ids(api, "/v1/prices", "price", instrument="7203", **{name: day}, **told)
                assert found == prices, (name, day, told)
            assert _ids(api, positions, "mark", as_of=day, **told) == prices[-1:]
        since = {"instrument": "7203", "from": "2024-01-06"}
        assert _ids(api, "/v1/prices", "price", **since, **told) == ["200"]
        assert "200" in _ids(api, "/v1/prices", "price", to="2024-01-06", **told)
