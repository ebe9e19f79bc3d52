"""Requests that are wrong: each is answered with a problem that names the fault, and no trace."""

import contextlib
import json
import socket
from typing import Any

import httpx
import pytest

from api.http import problems
from tests.api.http.server import TIME, Server, cash, deal

_TYPES = {kind.type for kind in problems.KINDS}


def told_well(answer: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Check that an answer is a problem of that name, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:daybook:problem:{name}"
    assert document["type"] in _TYPES
    assert document["status"] == status
    assert "Traceback" not in answer.text
    return document


def post(api: httpx.Client, content: bytes | str, path: str = "/v1/cash") -> httpx.Response:
    return api.post(path, content=content, headers={"Content-Type": "application/json"})


GOOD = json.dumps(cash("BAD", "C1"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"account": "\xc3"}',
        GOOD.replace('"100.50"', "NaN"),
        GOOD.replace('"100.50"', "Infinity"),
        GOOD.replace('"100.50"', "-Infinity"),
        GOOD.replace('"100.50"', "01"),
        GOOD.replace('"100.50"', "9" * 5000),
        GOOD.replace("{", '{"account": "BAD", ', 1),
        GOOD.replace('"C1"', '"\\ud800"'),
        GOOD + "{}",
        "[" * 100_000,
        '{"a":' * 50 + "1" + "}" * 50,
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_strict_json(api: httpx.Client, content: bytes | str) -> None:
    told_well(post(api, content), 400, "invalid-json")


@pytest.mark.parametrize("start", ['"', '{"a": "', '[["', ""])
def test_a_string_that_does_not_end_is_not_searched_again_and_again(
    api: httpx.Client, start: str
) -> None:
    told_well(post(api, start + '\\"' * 500_000), 400, "invalid-json")


def test_brackets_in_strings_are_no_depth(api: httpx.Client) -> None:
    body = cash("BAD", "C-brackets") | {"source_kind": '[{"\\' * 10}
    assert post(api, json.dumps(body)).status_code == 201


def test_the_name_told_twice_is_named(api: httpx.Client) -> None:
    document = told_well(post(api, '{"account": "A", "account": "B"}'), 400, "invalid-json")
    assert document["field"] == "account"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": "1e5x"}, "data.amount"),
        ({"amount": True}, "data.amount"),
        ({"amount": None}, "data.amount"),
        ({"amount": "1" * 60}, "amount"),
        ({"amount": 1e300}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"kind": "gift"}, "data.kind"),
        ({"currency": "dollars!"}, "currency"),
        ({"event_time": "2024-01-02T14:30:00"}, "event_time"),
        ({"event_time": "2024-01-02"}, "event_time"),
        ({"event_time": 5}, "event_time"),
        ({"event_time": None}, "event_time"),
        ({"account": 7}, "account"),
        ({"account": ""}, "account"),
        ({"account": "x" * 129}, "account"),
        ({"account": "a\u0000b"}, "account"),
        ({"account": " a"}, "account"),
        ({"surprise": 1}, "data.surprise"),
        ({"ids": {"scheme": "a\nb"}}, "ids.scheme"),
        ({"ids": [1]}, "data.ids"),
        ({"booked_date": "2024-02-30"}, "booked_date"),
    ],
)
def test_a_wrong_value_is_named(api: httpx.Client, changes: dict[str, Any], field: str) -> None:
    body = json.dumps(cash("BAD", "C1") | changes)
    document = told_well(post(api, body), 422, "invalid-value")
    assert document["field"] == field
    assert document["expected"]


@pytest.mark.parametrize("content", ["[]", "7", '"text"', "null"])
def test_a_body_is_an_object(api: httpx.Client, content: str) -> None:
    told_well(post(api, content), 422, "invalid-value")


def test_a_path_and_a_body_do_not_tell_the_same(api: httpx.Client) -> None:
    body = {"account": "BAD", "event_time": TIME, "order_id": "O2"}
    document = told_well(api.post("/v1/orders/O1/cancel", json=body), 422, "invalid-value")
    assert document["field"] == "order_id"


def test_control_characters_never_reach_the_tables(open_server: Server, api: httpx.Client) -> None:
    refused = (
        deal("BAD", "D1", strategy="a\u0000b"),
        deal("BAD", "D1", tags=["fine", "\u0000"]),
        deal("BAD", "D1", fees=[{"kind": "\u0000", "amount": "1", "currency": "USD"}]),
        deal("BAD", "D1", told={"status": "\u0000"}),
    )
    for body in refused:
        told_well(api.post("/v1/deals", json=body), 422, "invalid-value")
    for number, text in enumerate(("\ud7ff\u0001", "\u202e", "\uffff", "\\", "\n\t", "\\N", '"')):
        answer = api.post("/v1/deals", json=deal("BAD", f"D2-{number}", strategy=text))
        assert answer.status_code == 201, answer.text
    assert api.post("/v1/deals", json=deal("BAD", "D-after")).status_code == 201
    deals = api.get("/v1/accounts/BAD/deals").json()["data"]
    assert "D-after" in {row["deal_id"] for row in deals}
    ready = api.get("/readyz").json()
    assert not any(one["halted"] for one in ready["projections"]), ready


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"as_off": "2024-01-01"}, "as_off"),
        ({"as_of": "yesterday"}, "as_of"),
        ({"as_of": "2024-01-01T00:00:00"}, "as_of"),
        ({"known_at": "3"}, "known_at"),
        ({"known_at": "99:1"}, "known_at"),
        ({"known_at": "0:999999999"}, "known_at"),
        ({"from": "x"}, "from"),
        ({"to": "2024-13-01"}, "to"),
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "10001"}, "limit"),
        ({"limit": "9" * 50}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "\u0661"}, "limit"),
        ({"format": "xml"}, "format"),
        ({"min_position": "x"}, "min_position"),
        ({"min_position": "99:1"}, "min_position"),
        ({"min_position": "0:" + "9" * 40}, "min_position"),
        ({"instrument": ""}, "instrument"),
        ({"instrument": "a\u0000"}, "instrument"),
        ({"instrument": "x" * 129}, "instrument"),
        ({"method": "hope"}, "method"),
    ],
)
def test_a_wrong_parameter_is_named(api: httpx.Client, told: dict[str, str], field: str) -> None:
    api.post("/v1/cash", json=cash("BAD", "C1"))
    model = "positions" if "method" in told else "deals"
    document = told_well(api.get(f"/v1/accounts/BAD/{model}", params=told), 422, "invalid-value")
    assert document["field"] == field


def test_a_parameter_is_told_once(api: httpx.Client) -> None:
    answer = api.get("/v1/accounts?as_of=2024-01-01&as_of=2024-01-02")
    assert told_well(answer, 422, "invalid-value")["field"] == "as_of"


def test_a_cursor_is_taken_as_it_was_given_or_not_at_all(api: httpx.Client) -> None:
    for number in range(3):
        api.post("/v1/cash", json=cash("CUR", f"C{number}"))
    path = "/v1/accounts/CUR/cash"
    cursor = api.get(path, params={"limit": 1}).json()["next"]
    changed = [cursor[:-2] + "AA", cursor[::-1], cursor + "A", "", "é", "=" * 9, "A" * 5000]
    for wrong in changed:
        answer = api.get(path, params={"cursor": wrong})
        assert answer.status_code in (400, 422), (wrong, answer.text)
    for elsewhere in ("/v1/accounts/CUR/deals", "/v1/accounts/BAD/cash", path + "?from=2024-01-01"):
        answer = api.get(elsewhere, params={"cursor": cursor} | dict(httpx.URL(elsewhere).params))
        told_well(answer, 400, "invalid-cursor")


def test_bodies_have_a_size(api: httpx.Client) -> None:
    large = json.dumps(cash("BAD", "C1") | {"source_kind": "x" * (1 << 20)})
    told_well(post(api, large), 413, "body-too-large")
    chunks = (b'"' + b"x" * 65536 for _ in range(2000))  # 130 MB, its length not told
    answer = httpx.Client(base_url=api.base_url).post(
        "/v1/commands", content=chunks, headers={"Content-Type": "application/json"}
    )
    told_well(answer, 413, "body-too-large")


def test_a_list_has_a_length(api: httpx.Client) -> None:
    told_well(post(api, "[" + "1," * 10_000 + "1]", "/v1/commands"), 422, "invalid-value")


def test_other_types_of_body_are_refused(api: httpx.Client) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = api.post("/v1/cash", content=GOOD, headers={"Content-Type": media_type})
        told_well(answer, 415, "unsupported-media-type")
    answer = api.post(
        "/v1/cash",
        content=GOOD,
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    told_well(answer, 415, "unsupported-media-type")


def test_paths_and_methods_that_are_not_there(api: httpx.Client) -> None:
    told_well(api.get("/v1/nothing"), 404, "not-found")
    told_well(api.get("/v1/accounts/A1/secrets"), 404, "not-found")
    told_well(api.get("/../../etc/passwd"), 404, "not-found")
    told_well(api.get("/assets/%2e%2e/%2e%2e/%2e%2e/app.py"), 404, "not-found")
    answer = api.delete("/v1/accounts")
    told_well(answer, 405, "method-not-allowed")
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) >= {"GET", "POST"}
    told_well(api.request("PROPFIND", "/v1/cash"), 405, "method-not-allowed")


def test_formats_that_are_not_there(api: httpx.Client) -> None:
    answer = api.get("/v1/accounts", headers={"Accept": "image/png"})
    told_well(answer, 406, "not-acceptable")


def test_ids_are_ids_and_never_sql_or_headers(api: httpx.Client) -> None:
    hostile = "'; DROP TABLE accounts; --"
    assert api.post("/v1/cash", json=cash(hostile, "C1")).status_code == 201
    path = "/v1/accounts/" + hostile.replace(";", "%3B").replace(" ", "%20") + "/cash"
    assert len(api.get(path).json()["data"]) == 1
    assert api.get("/v1/accounts").status_code == 200
    injected = api.get("/v1/accounts/A%0d%0aSet-Cookie:%20x=1/cash")
    assert injected.status_code == 404
    assert "set-cookie" not in injected.headers
    answer = api.get("/v1/accounts", headers={"X-Request-Id": "a b<script>"})
    assert answer.headers["X-Request-Id"] != "a b<script>"


def test_pages_of_other_sites_get_nothing(api: httpx.Client) -> None:
    told_well(api.get("/v1/accounts", headers={"Host": "evil.example"}), 421, "misdirected")
    told_well(api.get("/v1/accounts", headers={"Host": "127.0.0.1.evil"}), 421, "misdirected")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    ):
        told_well(api.get("/v1/accounts", headers=headers), 403, "foreign-origin")
    own = f"http://{api.base_url.netloc.decode()}"
    answer = api.get("/v1/accounts", headers={"Origin": own})
    assert answer.status_code == 200
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_every_answer_is_hardened(api: httpx.Client) -> None:
    for path in ("/", "/v1/accounts", "/v1/nothing", "/healthz", "/openapi.json"):
        headers = api.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["X-Request-Id"]
        assert "server" not in headers


def exchange(server: Server, raw: bytes) -> bytes:
    """Send bytes and return what comes until the server closes, or for two seconds."""
    received: list[bytes] = []
    with contextlib.suppress(TimeoutError):
        _collect(server, raw, received, timeout_s=2)
    return b"".join(received)


def until_closed(server: Server, raw: bytes) -> bytes:
    """Send bytes and return what comes until the server closes."""
    received: list[bytes] = []
    _collect(server, raw, received, timeout_s=120)
    return b"".join(received)


def _collect(server: Server, raw: bytes, received: list[bytes], timeout_s: float) -> None:
    url = httpx.URL(server.url)
    address = (url.host, url.port or 80)
    with (
        socket.create_connection(address, timeout=timeout_s) as connection,
        contextlib.suppress(ConnectionResetError),
    ):
        connection.sendall(raw)
        while piece := connection.recv(65536):
            received.append(piece)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /v1/accounts HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        (
            b"POST /v1/cash HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET"
        ),
        b"GET /v1/accounts HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_what_is_hardly_http(open_server: Server, api: httpx.Client, raw: bytes) -> None:
    received = exchange(open_server, raw)
    assert not received or received.startswith(b"HTTP/1.1 4"), received[:200]
    assert b"Traceback" not in received
    assert api.get("/healthz").status_code == 200


def test_an_answer_is_not_waited_for_for_ever(
    open_server: Server, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.services.WAIT_S", 0.2)
    answer = api.get("/v1/accounts", params={"min_position": "0:99999999"})
    told_well(answer, 504, "position-not-reached")
    assert answer.headers["Retry-After"]


def test_a_head_that_never_ends_is_not_waited_for(
    open_server: Server, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.protocol.HEAD_S", 0.2)
    received = until_closed(open_server, b"GET /healthz HTTP/1.1\r\nHost: local")
    assert received == b""


def test_a_body_that_never_ends_is_not_waited_for(
    open_server: Server, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.strict_json.BODY_S", 0.2)
    raw = b"POST /v1/cash HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    received = until_closed(open_server, raw + b"Content-Length: 100\r\n\r\n{")
    assert received.startswith(b"HTTP/1.1 408")
    assert b"body-too-slow" in received


def test_the_page_of_problems_lists_every_kind() -> None:
    from pathlib import Path

    page = Path(__file__).parents[3] / "docs" / "reference" / "problems.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `urn:")]
    listed = {
        (cells[1].strip(" `"), int(cells[2]), cells[3].strip())
        for cells in (row.split("|") for row in rows)
    }
    kinds = (*problems.KINDS, *problems.FEED_KINDS)
    assert listed == {(kind.type, kind.status, kind.title) for kind in kinds}


@pytest.mark.parametrize("name", ["%00", "a%00b", "%20a", "a%09", "x" * 129, "e%CC%81"])
def test_what_can_be_no_id_is_as_absent_as_any(
    api: httpx.Client, guarded: Server, name: str
) -> None:
    with guarded.client(guarded.token("quant", portfolios=["P1"])) as limited:
        for client in (api, limited):
            answer = client.get(f"/v1/accounts/{name}/positions")
            told_well(answer, 404, "unknown-account")
            assert answer.content == client.get("/v1/accounts/nobody/positions").content
            told_well(client.get(f"/v1/portfolios/{name}/positions"), 404, "unknown-portfolio")
