"""Events of an account: the newest first, and those that had happened by a time."""

from typing import Any

import httpx
import pytest

from tests.api.http.server import cash, deal


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


def test_the_newest_are_those_of_one_account(api: httpx.Client) -> None:
    for params, field in (
        ({"newest": "true"}, "account"),
        ({"as_of": "2024-01-02"}, "account"),
        ({"account": "N1", "topic": "prices", "newest": "true"}, "account"),
        ({"account": "N1", "newest": "true", "after": "0:1"}, "after"),
        ({"account": "N1", "newest": "yes"}, "newest"),
    ):
        answer = api.get("/v1/events", params=params)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert api.get("/v1/events", params={"account": "N99", "newest": "true"}).status_code == 404
