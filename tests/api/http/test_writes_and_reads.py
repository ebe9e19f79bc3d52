"""What is written is read back: paths, ids, positions, pages, formats, past."""

import io
import itertools
import json
from typing import Any
from urllib.parse import quote

import httpx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.api.http.server import TIME, cash, deal, order, read_at


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_a_write_is_answered_with_its_position_and_a_read_sees_it(api: httpx.Client) -> None:
    done = api.post("/v1/cash", json=cash("W1", "C1"), headers=keyed("w1"))
    assert done.status_code == 201
    assert done.json()["status"] == "accepted"
    position = done.headers["Daybook-Position"]
    read = read_at(api, "/v1/accounts/W1/balances", position)
    assert read.json()["data"] == [
        {"account": "W1", "currency": "USD", "balance": "100.50", "settled": "100.50"}
    ]
    assert read.json()["position"] == read.headers["Daybook-Position"]
    assert int(read.json()["position"].split(":")[1]) >= int(position.split(":")[1])


def test_a_read_sees_this_servers_writes_without_asking(api: httpx.Client) -> None:
    for number in range(5):
        api.post("/v1/cash", json=cash("W2", f"C{number}", "1"))
        balance = api.get("/v1/accounts/W2/balances").json()["data"][0]["balance"]
        assert balance == str(number + 1)


def test_the_same_key_is_done_once_and_other_content_is_a_conflict(api: httpx.Client) -> None:
    first = api.post("/v1/deals", json=deal("W3", "D1"), headers=keyed("d1"))
    again = api.post("/v1/deals", json=deal("W3", "D1", quantity="10.00"), headers=keyed("d1"))
    other = api.post("/v1/deals", json=deal("W3", "D1", quantity="11"), headers=keyed("d1"))
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Daybook-Position"] == first.headers["Daybook-Position"]
    assert other.json()["type"] == "urn:daybook:problem:conflict"


def test_a_key_in_any_script_is_the_same_in_a_header_and_in_a_body(api: httpx.Client) -> None:
    key, body = "käse-試験", cash("W3", "C1")
    header = {b"Idempotency-Key": key.encode()}
    first = api.post("/v1/cash", json=body, headers=header)
    assert (first.status_code, first.json()["command_id"]) == (201, key)
    about = {name: body.pop(name) for name in ("account", "event_time")}
    command = {"command_id": key, "type": "MoveCash", **about, "data": body}
    for headers in (None, header):
        again = api.post("/v1/commands", json=command, headers=headers)
        assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    wrong = api.post("/v1/cash", json=cash("W3", "C2"), headers={b"Idempotency-Key": b"k\xe4se"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "Idempotency-Key")


def test_a_fact_told_again_under_another_key_is_a_duplicate(api: httpx.Client) -> None:
    api.post("/v1/deals", json=deal("W4", "D1"), headers=keyed("x1"))
    again = api.post("/v1/deals", json=deal("W4", "D1"), headers=keyed("x2"))
    assert (again.status_code, again.json()["status"]) == (200, "duplicate")
    assert "Idempotency-Replayed" not in again.headers


def test_an_order_lives_by_its_paths_though_its_id_has_a_slash(api: httpx.Client) -> None:
    placed = order("W5", "2024-01-02/a1", order_type="limit", limit_price="10")
    assert api.post("/v1/orders", json=placed).status_code == 201
    about = {"account": "W5", "event_time": TIME}
    replaced = api.post("/v1/orders/2024-01-02%2Fa1/replace", json={**about, "quantity": "20"})
    assert replaced.status_code == 201
    canceled = api.post("/v1/orders/2024-01-02/a1/cancel", json=about)
    assert canceled.status_code == 201
    (row,) = api.get("/v1/accounts/W5/orders").json()["data"]
    assert (row["order_id"], row["status"]) == ("2024-01-02/a1", "pending_cancel")
    unknown = api.post("/v1/orders/nobody/cancel", json=about)
    assert unknown.status_code == 422
    assert unknown.json()["type"] == "urn:daybook:problem:refused"
    assert unknown.json()["answer"]["position"]


def test_deals_are_corrected_and_busted(api: httpx.Client) -> None:
    api.post("/v1/deals", json=deal("W6", "D1"))
    corrected = deal("W6", "D2", price="185.46")
    assert api.post("/v1/deals/D1/correct", json=corrected).status_code == 201
    (row,) = api.get("/v1/accounts/W6/deals").json()["data"]
    assert (row["deal_id"], row["status"], row["price"]) == ("D1", "corrected", "185.46")
    about = {"account": "W6", "event_time": TIME}
    assert api.post("/v1/deals/D2/bust", json=about).status_code == 201
    (row,) = api.get("/v1/accounts/W6/deals").json()["data"]
    assert row["status"] == "busted"


def test_a_transfer_arrives(api: httpx.Client) -> None:
    for account in ("W7", "W8"):
        api.post("/v1/accounts", json={"account": account, "event_time": TIME})
    told = {"account": "W7", "event_time": TIME, "to_account": "W8", "transfer_id": "T1"}
    sent = api.post("/v1/transfers", json={**told, "cash": [{"currency": "USD", "amount": "5"}]})
    assert sent.status_code == 201
    balances = {
        account: api.get(f"/v1/accounts/{account}/balances").json()["data"][0]["balance"]
        for account in ("W7", "W8")
    }
    assert balances == {"W7": "-5", "W8": "5"}


def test_commands_come_singly_and_in_lists(api: httpx.Client) -> None:
    def command(number: int, **told: Any) -> dict[str, Any]:
        body = cash("W9", f"C{number}")
        about = {"account": body.pop("account"), "event_time": body.pop("event_time")}
        return {"command_id": f"l{number}", "type": "MoveCash", **about, "data": body, **told}

    assert api.post("/v1/commands", json=command(1)).status_code == 201
    many = [command(1), command(2), {"command_id": "bad"}, command(3, event_time="noon"), 7]
    done = api.post("/v1/commands", json=many)
    assert done.status_code == 200
    assert [one["status"] for one in done.json()] == ["duplicate", "accepted", *["refused"] * 3]
    assert [one["reason"] for one in done.json()][2:] == ["invalid"] * 3
    assert done.json()[3]["field"] == "event_time"
    assert done.headers["Daybook-Position"] == done.json()[1]["position"]


def test_strict_opens_nothing(api: httpx.Client) -> None:
    refused = api.post("/v1/cash", params={"strict": "true"}, json=cash("NOBODY", "C1"))
    assert (refused.status_code, refused.json()["type"][-15:]) == (404, "unknown-account")
    api.post("/v1/accounts", json={"account": "W10", "event_time": TIME})
    odd = deal("W10", "D1", instrument="NEVER")
    refused = api.post("/v1/deals", params={"strict": "true"}, json=odd)
    assert (refused.status_code, refused.json()["field"]) == (422, "instrument")


@pytest.fixture(scope="module")
def book(api: httpx.Client) -> str:
    """An account with thirty deals, told day by day."""
    commands = []
    for number in range(30):
        day = f"2024-03-{number % 28 + 1:02}"
        data = deal("B1", f"D{number:03}", event_time=f"{day}T12:00:00Z", quantity=f"{number + 1}")
        about = {"account": data.pop("account"), "event_time": data.pop("event_time")}
        commands.append({"command_id": f"b{number}", "type": "RecordDeal", **about, "data": data})
    done = api.post("/v1/commands", json=commands)
    assert {one["status"] for one in done.json()} == {"accepted"}
    return str(done.headers["Daybook-Position"])


def test_pages_hold_each_row_once_while_rows_are_added(api: httpx.Client, book: str) -> None:
    seen: list[str] = []
    cursor: str | None = None
    for number in range(40):
        told = {"limit": 7} | ({"cursor": cursor} if cursor else {})
        page = api.get("/v1/accounts/B1/deals", params=told)
        seen += [row["deal_id"] for row in page.json()["data"]]
        cursor = page.json()["next"]
        assert (cursor is not None) == ('rel="next"' in page.headers.get("Link", ""))
        if cursor is None:
            break
        api.post("/v1/deals", json=deal("B1", f"C{number:03}"))  # sorts before what was seen
    assert seen == [f"D{number:03}" for number in range(30)]


@pytest.mark.parametrize(
    "told", [{}, {"as_of": "2024-03-10"}, {"known_at": "2100-01-01"}, {"method": "lifo"}]
)
@pytest.mark.parametrize("model", ["positions", "lots"])
def test_past_answers_have_pages_too(
    api: httpx.Client, book: str, model: str, told: dict[str, str]
) -> None:
    path = f"/v1/accounts/B1/{model}"
    whole = api.get(path, params=told).json()["data"]
    assert whole
    rows, params = [], {**told, "limit": "3"}
    while True:
        page = api.get(path, params=params).json()
        rows += page["data"]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert rows == whole


def test_a_period_is_cut_out_of_the_facts(api: httpx.Client, book: str) -> None:
    told = {"from": "2024-03-05", "to": "2024-03-06T12:00:00Z"}
    rows = api.get("/v1/accounts/B1/deals", params=told).json()["data"]
    assert [row["deal_id"] for row in rows] == ["D004", "D005"]
    past = api.get("/v1/accounts/B1/deals", params={**told, "as_of": "2024-03-05"}).json()
    assert [row["deal_id"] for row in past["data"]] == ["D004"]


@pytest.mark.parametrize("limit", [None, 10_000])
@pytest.mark.parametrize("model", ["deals", "lots", "positions", "balances", "orders", "cash"])
def test_every_format_tells_the_same(
    api: httpx.Client, book: str, model: str, limit: int | None
) -> None:
    path, cut = f"/v1/accounts/B1/{model}", {} if limit is None else {"limit": limit}
    rows = api.get(path).json()["data"]
    csv = api.get(path, params=cut, headers={"Accept": "text/csv"}).content
    arrow = api.get(path, params={"format": "arrow", **cut}).content
    parquet = api.get(path, params={"format": "parquet", **cut}).content
    tables = [pa.ipc.open_stream(arrow).read_all(), pq.read_table(io.BytesIO(parquet))]
    for table in tables:
        assert table.num_rows == len(rows)
        assert table.schema.names == list(rows[0]) if rows else True
        for name in table.schema.names:
            if pa.types.is_decimal(table.schema.field(name).type):
                values = [None if one is None else float(one) for one in table[name].to_pylist()]
                assert values == [None if row[name] is None else float(row[name]) for row in rows]
    text = pyarrow.csv.read_csv(
        io.BytesIO(csv), convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    )
    assert text.num_rows == len(rows)


def test_what_the_asker_has_is_not_sent_again(api: httpx.Client, book: str) -> None:
    for told in ({}, {"format": "arrow"}):
        first = api.get("/v1/accounts/B1/lots", params=told)
        again = api.get(
            "/v1/accounts/B1/lots", params=told, headers={"If-None-Match": first.headers["ETag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
    api.post("/v1/cash", json=cash("ANOTHER", "C1"))
    again = api.get("/v1/accounts/B1/lots", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200


def test_large_answers_are_packed_where_asked(api: httpx.Client, book: str) -> None:
    packed = api.get("/v1/accounts/B1/deals", headers={"Accept-Encoding": "gzip"})
    plain = api.get("/v1/accounts/B1/deals", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json()["data"] == plain.json()["data"]
    streamed = api.get("/v1/accounts/B1/deals?format=csv", headers={"Accept-Encoding": "gzip"})
    assert streamed.headers["Content-Encoding"] == "gzip"
    assert streamed.text.startswith("account,deal_id")


def test_the_past_is_told_with_its_positions(api: httpx.Client, book: str) -> None:
    now = api.get("/v1/accounts/B1/positions", params={"known_at": book})
    assert now.headers["Daybook-Position"] == book
    named = api.get("/v1/accounts/B1/positions", params={"known_at": f"events/{book}"})
    assert named.json() == now.json()
    instant = api.get("/v1/accounts/B1/positions", params={"known_at": "2100-01-01T00:00:00Z"})
    assert instant.headers["Daybook-Provisional"] == "true"
    assert instant.json()["data"]


def test_events_are_told_as_stored_with_position_and_hash(api: httpx.Client, book: str) -> None:
    events: list[dict[str, Any]] = []
    params: dict[str, Any] = {"account": "B1", "limit": 20}
    while True:
        page = api.get("/v1/events", params=params).json()
        events += page["data"]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
    pairs = itertools.pairwise(events)
    assert all(one["hash"] == other["prev_hash"] for one, other in pairs)
    after = api.get("/v1/events", params={"account": "B1", "after": events[-2]["position"]})
    assert [one["id"] for one in after.json()["data"]] == [events[-1]["id"]]


def test_events_are_asked_for_by_what_they_are_about(api: httpx.Client) -> None:
    def asked(**params: Any) -> list[dict[str, Any]]:
        answer = api.get("/v1/events", params={"account": "B7", **params})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]
        return found

    for number in range(3):
        body = deal("B7", f"D{number}", instrument=f"I{number % 2}")
        answer = api.post("/v1/deals", json=body)
        assert answer.status_code == 201, answer.text
    euros = {**cash("B7", "C1"), "currency": "EUR"}
    position = api.post("/v1/cash", json=euros).headers["Daybook-Position"]
    everything = asked()
    told = asked(instrument="I0")
    assert [one["data"]["deal_id"] for one in told] == ["D0", "D2"]
    assert [one["data"]["deal_id"] for one in asked(deal="D1")] == ["D1"]
    assert [one["data"]["deal_id"] for one in asked(instrument="I0", deal="D2")] == ["D2"]
    assert [one["type"] for one in asked(currency="EUR")] == ["CashMoved"]
    assert asked(instrument="I0", deal="D1") == asked(order="nothing") == []
    first = api.get("/v1/events", params={"account": "B7", "instrument": "I0", "limit": 1}).json()
    (second,) = asked(instrument="I0", cursor=first["next"], limit=1)
    assert [*first["data"], second] == told
    assert asked(known_at=told[0]["position"])[-1] == told[0]
    assert asked(known_at=position) == everything
    assert api.get("/v1/events", params={"account": "B99", "deal": "D1"}).status_code == 404
    for params in ({"deal": "D1"}, {"account": "B7", "topic": "prices", "deal": "D1"}):
        answer = api.get("/v1/events", params=params)
        assert answer.status_code == 422
        assert answer.json()["field"] == "account"


def test_what_is_to_come_says_so(api: httpx.Client) -> None:
    for path in ("accounts/B1/pnl", "accounts/a/b/risk", "portfolios/P1/attribution"):
        answer = api.get(f"/v1/{path}")
        assert answer.status_code == 501
        assert answer.json()["type"] == "urn:daybook:problem:not-there-yet"
    assert api.post("/v1/accounts/B1/pnl").status_code == 405
    assert api.get("/v1/accounts/B1/attribution").status_code == 404


def test_all_events_are_there_once(api: httpx.Client, book: str) -> None:
    for topic in ("events", "reference", "prices"):
        seen: list[str] = []
        params: dict[str, Any] = {"topic": topic, "limit": 13}
        while True:
            page = api.get("/v1/events", params=params).json()
            seen += [one["position"] for one in page["data"]]
            if page["next"] is None:
                break
            params["cursor"] = page["next"]
        assert len(seen) == len(set(seen)) >= 16


def test_prices_and_instruments_are_read(api: httpx.Client, book: str) -> None:
    price = {
        "command_id": "p1",
        "type": "RecordPrice",
        "key": "AAPL",
        "event_time": TIME,
        "data": {"price": "190", "currency": "USD"},
    }
    assert api.post("/v1/commands", json=price).status_code == 201
    (row,) = api.get("/v1/prices", params={"instrument": "AAPL"}).json()["data"]
    assert (row["price"], row["kind"]) == ("190", "close")
    names = [row["instrument"] for row in api.get("/v1/instruments").json()["data"]]
    assert "AAPL" in names
    marked = api.get("/v1/accounts/B1/positions").json()["data"][0]
    assert marked["mark"] == "190"


def test_a_portfolio_has_its_childrens_positions(api: httpx.Client) -> None:
    api.post("/v1/accounts", json={"account": "PF1", "event_time": TIME, "portfolio": "child"})
    parent = {
        "command_id": "pf",
        "type": "DefinePortfolio",
        "key": "child",
        "event_time": TIME,
        "data": {"parent": "mother"},
    }
    assert api.post("/v1/commands", json=parent).status_code == 201
    api.post("/v1/deals", json=deal("PF1", "D1"))
    for name in ("child", "mother"):
        rows = api.get(f"/v1/portfolios/{name}/positions").json()["data"]
        assert [row["account"] for row in rows] == ["PF1"]
    assert api.get("/v1/portfolios/nobody/positions").status_code == 404


def test_the_document_has_an_example_of_everything(api: httpx.Client) -> None:
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            if method == "post":
                assert told["requestBody"]["content"]["application/json"]["example"], path
            good = [one for code, one in told["responses"].items() if code[0] == "2"]
            assert all("example" in next(iter(one["content"].values())) for one in good), path
    json.dumps(document)


def test_a_facts_own_id_told_with_other_content_is_a_conflict(api: httpx.Client) -> None:
    for path, body, changes in (
        ("/v1/deals", deal("W14", "D1"), {"price": "1"}),
        ("/v1/orders", order("W14", "O1"), {"quantity": "11"}),
        ("/v1/cash", cash("W14", "C1"), {"amount": "1"}),
    ):
        assert api.post(path, json=body, headers=keyed(f"{path}-1")).status_code == 201
        for _ in range(2):
            other = api.post(path, json=body | changes, headers=keyed(f"{path}-2"))
            assert other.status_code == 409, other.text
            assert other.json()["type"] == "urn:daybook:problem:conflict"
            assert other.json()["answer"]["position"]  # it is recorded that this was told
        assert other.headers["Idempotency-Replayed"] == "true"


def test_the_longest_key_opens_an_account_too(api: httpx.Client) -> None:
    for number in range(2):
        key = f"{number}{'k' * 127}"
        for status in (201, 200):
            body = deal("W15", f"D{number}", instrument=f"W15-{number}")
            answer = api.post("/v1/deals", json=body, headers=keyed(key))
            assert (answer.status_code, answer.json()["command_id"]) == (status, key), answer.text
    assert len(api.get("/v1/accounts/W15/deals").json()["data"]) == 2


@pytest.mark.parametrize("account", ["日本 x", "é>/..", "50%"])
def test_an_account_of_any_name_has_pages(api: httpx.Client, account: str) -> None:
    for number in range(3):
        assert api.post("/v1/deals", json=deal(account, f"D{number}")).status_code == 201
    page = api.get(f"/v1/accounts/{quote(account, safe='')}/deals", params={"limit": 1})
    seen = [row["deal_id"] for row in page.json()["data"]]
    while "next" in page.links:
        page = api.get(page.links["next"]["url"])
        assert page.status_code == 200, page.text
        seen += [row["deal_id"] for row in page.json()["data"]]
    assert seen == ["D0", "D1", "D2"]
