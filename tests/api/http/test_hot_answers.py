"""Answers that are given again from memory: only while nothing has changed that is in them."""

import time
from typing import Any

import httpx
import pytest

from api.http.following import Follower
from api.http.hot import Answer, HotAnswers
from api.http.readers import Readers
from api.read_models import READ_MODELS
from tests.api.http.server import TIME, Server, deal, read_at


@pytest.fixture
def reads(open_server: Server, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was asked of the store while the test runs."""
    asked: list[object] = []
    run = Readers.run

    async def noted(self: Readers, ask: Any) -> Any:
        asked.append(ask)
        return await run(self, ask)

    monkeypatch.setattr(Readers, "run", noted)
    return asked


def _settled(api: httpx.Client, path: str, reads: list[object]) -> dict[str, Any]:
    """Ask until an answer comes from memory, which takes a look at the checkpoints."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        before = len(reads)
        told: dict[str, Any] = api.get(path).json()
        if len(reads) == before:
            return told
    raise AssertionError("no answer was kept")


def _told(api: httpx.Client, path: str, body: dict[str, Any]) -> str:
    answer = api.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.headers["Daybook-Position"]


def test_an_answer_is_given_again_until_its_account_changes(
    api: httpx.Client, reads: list[object]
) -> None:
    path = "/v1/accounts/H1/positions"
    position = _told(api, "/v1/deals", deal("H1", "D1", quantity="5"))
    assert read_at(api, path, position).json()["data"][0]["quantity"] == "5"
    first = _settled(api, path, reads)
    assert first["data"][0]["quantity"] == "5"
    _told(api, "/v1/deals", deal("H1", "D2", quantity="7"))
    # A server that projects by itself always sees its own writes, whatever it has kept.
    assert api.get(path).json()["data"][0]["quantity"] == "12"
    assert _settled(api, path, reads)["data"][0]["quantity"] == "12"


def test_a_new_price_is_in_the_next_answer(api: httpx.Client, reads: list[object]) -> None:
    path = "/v1/accounts/H2/positions"
    _told(api, "/v1/deals", deal("H2", "D1", instrument="HOT"))
    _settled(api, path, reads)
    for number, price in enumerate(("10", "11")):
        command = {
            "command_id": f"hot-{number}",
            "type": "RecordPrice",
            "key": "HOT",
            "event_time": TIME,
            "data": {"price": price, "currency": "USD"},
        }
        position = _told(api, "/v1/commands", command)
        told = read_at(api, path, position).json()
        assert told["data"][0]["mark"] == price
        assert _settled(api, path, reads)["data"][0]["mark"] == price


def test_other_questions_have_other_answers(api: httpx.Client, reads: list[object]) -> None:
    for number in range(3):
        _told(api, "/v1/deals", deal("H3", f"D{number}", instrument=f"I{number}"))
    path = "/v1/accounts/H3/positions"
    whole = _settled(api, path, reads)
    assert len(whole["data"]) == 3
    page = _settled(api, f"{path}?limit=2", reads)
    rest = _settled(api, f"{path}?limit=2&cursor={page['next']}", reads)
    assert page["data"] + rest["data"] == whole["data"]
    assert [one["instrument"] for one in _settled(api, f"{path}?instrument=I1", reads)["data"]] == [
        "I1"
    ]
    assert api.get(path, params={"format": "csv", "limit": 2}).text.startswith("account,")
    tag = api.get(path).headers["ETag"]
    assert api.get(path, headers={"If-None-Match": tag}).status_code == 304


def test_the_past_is_read_each_time(api: httpx.Client, reads: list[object]) -> None:
    _told(api, "/v1/deals", deal("H4", "D1"))
    for _ in range(3):
        before = len(reads)
        assert api.get("/v1/accounts/H4/deals", params={"as_of": "2024-06-01"}).json()["data"]
        assert len(reads) > before


def test_nothing_counts_where_the_checkpoints_were_not_looked_at(
    open_server: Server, api: httpx.Client, reads: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/v1/accounts/H5/deals"
    _told(api, "/v1/deals", deal("H5", "D1"))
    _settled(api, path, reads)
    monkeypatch.setattr("api.http.hot.LOOKED_S", -1.0)
    before = len(reads)
    api.get(path)
    assert len(reads) > before


def test_memory_is_bounded(open_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.http.hot.MOST_BYTES", 100)
    follower: Follower = open_server.services.follower
    hot = HotAnswers(follower)
    answers = {name: Answer(name.encode() * 40, "", {}) for name in "abc"}
    for name in ("a", "b"):
        hot.keep(name, 1, answers[name])
    assert hot.find("a", 1) is answers["a"]
    hot.keep("c", 1, answers["c"])
    assert hot.find("b", 1) is None  # asked for longest ago
    assert hot.find("a", 1) is answers["a"]
    assert hot.find("c", 2) is None
    hot.keep("a", 2, Answer(b"x" * 101, "", {}))
    assert hot.find("a", 2) is None
    assert hot.state(READ_MODELS["deals"], "positions", 10_000) is None


def test_what_is_shown_beside_the_rows_is_seen_at_once_too(
    api: httpx.Client, reads: list[object]
) -> None:
    path = "/v1/accounts/H6/positions"
    _told(api, "/v1/deals", deal("H6", "D1", instrument="COLD"))
    _settled(api, path, reads)
    command = {"type": "RecordPrice", "key": "COLD", "event_time": TIME}
    for price in ("10", "11", "12"):
        data = {"price": price, "currency": "USD"}
        _told(api, "/v1/commands", {**command, "command_id": f"cold-{price}", "data": data})
        assert api.get(path).json()["data"][0]["mark"] == price
    for number in range(3):
        name = f"H6-{number}"
        _told(api, "/v1/accounts", {"account": "H6", "event_time": TIME, "portfolio": name})
        data = {"parent": "H6-above"}
        define = {"type": "DefinePortfolio", "key": name, "event_time": TIME, "data": data}
        _told(api, "/v1/commands", {**define, "command_id": name})
        for portfolio in (name, "H6-above"):
            answer = api.get(f"/v1/portfolios/{portfolio}/positions")
            assert [row["account"] for row in answer.json()["data"]] == ["H6"], answer.text
