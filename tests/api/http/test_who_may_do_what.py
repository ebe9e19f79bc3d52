"""Every path, every role, own and foreign accounts: made from the routes, so none is forgotten."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from starlette.routing import Route, WebSocketRoute

from api.http import later, writes
from api.http.app import create_app, operations
from api.http.audit import days
from api.http.examples import EXAMPLES
from api.http.operation import Call, Operation
from api.http.problems import RATE_LIMITED, Problem
from api.http.security import ROLES, SCOPES, Principal
from api.http.services import MOST_EXPORTS_OF_ONE
from api.importing.lines import Fact
from tests.api.http.server import TIME, Server, cash, deal, read_at

READERS = {"trader", "quant", "compliance", "service", "admin"}
BOOKERS = {"service", "admin"}
OPERATIONS = [*operations(), *later.operations()]
MAY: dict[str, set[str]] = {
    **{operation.name: READERS for operation in OPERATIONS if operation.name.startswith("read_")},
    "read_audit": {"compliance", "admin"},
    "submit": {"trader", "service", "admin"},
    "openAccount": BOOKERS,
    "placeOrder": BOOKERS | {"trader"},
    "cancelOrder": BOOKERS | {"trader"},
    "replaceOrder": BOOKERS | {"trader"},
    "recordDeal": BOOKERS,
    "bustDeal": BOOKERS,
    "correctDeal": BOOKERS,
    "moveCash": BOOKERS,
    "sendTransfer": BOOKERS,
    "metrics": BOOKERS,
}
"""Who may do what: written down by hand, to be compared with what the table makes of it."""
PUBLIC = {"healthz", "readyz"}
TO_COME = {operation.path for operation in later.operations()}
OPEN_PATHS = {"/openapi.json", "/asyncapi.json", "/", "/{name:path}"}
SOCKETS = {"/v1/feed"}
"""Paths of the feed, whose rights have tests of their own."""
OWN, FOREIGN, ABSENT, OTHER_OWN = "OWN", "FOREIGN", "ABSENT", "OWN2"


@pytest.fixture(scope="module")
def clients(guarded: Server) -> Iterator[dict[str, httpx.Client]]:
    """A client for each role, whose accounts are OWN and OWN2; and one of an administrator."""
    made: dict[str, httpx.Client] = {
        role: guarded.client(guarded.token(role, accounts=[OWN, OTHER_OWN])) for role in ROLES
    }
    made["all"] = guarded.client(guarded.token("admin"))
    for account, portfolio in ((OWN, "mine"), (OTHER_OWN, "mine"), (FOREIGN, "theirs")):
        body = {"account": account, "event_time": TIME, "portfolio": portfolio}
        assert made["all"].post("/v1/accounts", json=body).status_code == 201
        assert made["all"].post("/v1/cash", json=cash(account, "C1")).status_code == 201
    yield made
    for client in made.values():
        client.close()


def asked(operation: Operation, account: str, key: str) -> tuple[str, str, dict[str, Any]]:
    """Return a request of an operation about an account: method, path, and what goes with it."""
    portfolio = {OWN: "mine", FOREIGN: "theirs"}.get(account, "nowhere")
    path = operation.path.replace("{account}", account).replace("{portfolio}", portfolio)
    path = path.replace("{id}", "X1")
    if operation.body is None:
        params = {"account": account} if operation.name == "read_events" else {}
        return operation.method, path, {"params": params}
    if operation.name == "submit":
        data = cash(account, "C1") if key.startswith("book") else EXAMPLES["PlaceOrder"]
        data = {name: data[name] for name in data if name not in ("account", "event_time")}
        kind = "MoveCash" if key.startswith("book") else "PlaceOrder"
        about = {"command_id": f"{key}-{account}", "account": account, "event_time": TIME}
        return "POST", path, {"json": {**about, "type": kind, "data": data}}
    body = {**operation.body.example, "account": account}
    if operation.name == "sendTransfer":
        body["to_account"] = OTHER_OWN
    return "POST", path, {"json": body}


def test_every_route_is_in_the_table(guarded: Server) -> None:
    routes = create_app(guarded.services).router.routes
    table = {(one.method, one.path) for one in OPERATIONS}
    assert {one.path for one in routes if isinstance(one, WebSocketRoute)} == SOCKETS
    paths = [one for one in routes if isinstance(one, Route)]
    # A route of another kind, such as a router that was included, might hold any path.
    assert len(paths) + len(SOCKETS) == len(routes), routes
    assert {one.path for one in paths} >= OPEN_PATHS
    found = {
        (method, route.path.replace(":path}", "}"))
        for route in paths
        if route.path not in OPEN_PATHS
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert found == table


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_this_and_no_more(
    clients: dict[str, httpx.Client], operation: Operation, role: str
) -> None:
    method, path, told = asked(operation, OWN, f"orders-{role}")
    answer = clients[role].request(method, path, **told)
    if operation.name in PUBLIC:
        assert answer.status_code == 200
        return
    may = role in MAY[operation.name]
    if operation.owner == "portfolio":
        assert answer.status_code == 404  # accounts were given to them, and no portfolio
    elif may and operation.path in TO_COME:
        assert answer.status_code == 501
    elif not may:
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:daybook:problem:forbidden"
    else:
        assert answer.status_code in (200, 201, 409, 422), answer.text
        assert answer.status_code < 400 or "answer" in answer.json(), answer.text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
@pytest.mark.parametrize("role", ROLES)
def test_a_foreign_account_is_as_absent_as_one_that_is_not_there(
    clients: dict[str, httpx.Client], operation: Operation, role: str
) -> None:
    answers = []
    for account in (FOREIGN, ABSENT):
        method, path, told = asked(operation, account, f"orders-{role}")
        answers.append(clients[role].request(method, path, **told))
    foreign, absent = answers
    assert foreign.status_code == absent.status_code
    names_account = operation.owner or operation.body or operation.name == "read_events"
    if names_account:
        assert foreign.status_code in (403, 404)
        assert foreign.content == absent.content
    if operation.name == "read_accounts":
        assert {row["account"] for row in foreign.json()["data"]} == {OWN, OTHER_OWN}


@pytest.mark.parametrize("role", ROLES)
def test_a_list_of_commands_is_no_way_around(clients: dict[str, httpx.Client], role: str) -> None:
    submit = next(one for one in operations() if one.name == "submit")
    commands = [asked(submit, account, f"book-{role}")[2]["json"] for account in (FOREIGN, ABSENT)]
    commands.append(
        {
            "command_id": f"r-{role}",
            "type": "RecordPrice",
            "key": "AAPL",
            "event_time": TIME,
            "data": {"price": "1", "currency": "USD"},
        }
    )
    answer = clients[role].post("/v1/commands", json=commands)
    if role not in MAY["submit"]:
        assert answer.status_code == 403
        return
    reasons = [one["reason"] for one in answer.json()]
    if role in BOOKERS:
        assert reasons == ["unknown_account", "unknown_account", None]
    else:
        assert reasons == ["forbidden"] * 3


def test_a_list_of_many_accounts_lets_others_have_their_turn_and_is_audited_whole(
    guarded: Server, clients: dict[str, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 1_000
    turns, seen = 0, list[int]()
    others: list[asyncio.Task[None]] = []

    async def take_turns() -> None:
        nonlocal turns
        while len(seen) < count:
            turns += 1
            await asyncio.sleep(0)

    async def check_allowed(call: Call, fact: Fact) -> None:
        if not others:
            others.append(asyncio.create_task(take_turns()))
        seen.append(turns)
        await is_allowed(call, fact)

    is_allowed = writes._check_allowed
    monkeypatch.setattr(writes, "_check_allowed", check_allowed)
    submit = next(one for one in operations() if one.name == "submit")
    names = [f"many-{number:04}" for number in range(count)]
    commands = [asked(submit, name, "orders-many")[2]["json"] for name in names]
    answer = clients["trader"].post("/v1/commands", json=commands)
    assert {one["reason"] for one in answer.json()} == {"unknown_account"}
    assert len(set(seen)) >= count / 100
    request = answer.headers["X-Request-Id"]
    lines = [
        line
        for path in days(guarded.services.audit.folder)
        for line in map(msgspec.json.decode, path.read_bytes().splitlines())
        if line["request_id"] == request
    ]
    assert [name for line in lines for name in line["accounts"]] == names
    assert {(line["operation"], line["status"]) for line in lines} == {("submit", 200)}


def test_one_principal_leaves_exports_to_others(
    guarded: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take() -> None:
        services = guarded.services
        taken = [await services.export_place(ann) for _ in range(MOST_EXPORTS_OF_ONE)]
        with pytest.raises(Problem) as refused:
            await services.export_place(ann)
        assert refused.value.kind is RATE_LIMITED
        for give_back in (*taken, await services.export_place(bob)):
            give_back()

    ann, bob = (Principal(subject=name, role="quant", scopes=SCOPES) for name in ("ann", "bob"))
    monkeypatch.setattr("api.http.services.EXPORT_WAIT_S", 0.0)
    asyncio.run(take())


def test_a_transfer_does_not_find_out_whose_accounts_there_are(
    clients: dict[str, httpx.Client],
) -> None:
    body = EXAMPLES["SendTransfer"] | {"account": OWN}
    answers = [
        clients["service"].post("/v1/transfers", json=body | {"to_account": account})
        for account in (FOREIGN, ABSENT)
    ]
    assert [one.status_code for one in answers] == [404, 404]
    assert answers[0].content == answers[1].content


def test_nobody_speaks_for_another(clients: dict[str, httpx.Client]) -> None:
    submit = next(one for one in operations() if one.name == "submit")
    command = asked(submit, OWN, "orders-actor")[2]["json"] | {"actor": "somebody else"}
    command["data"] = command["data"] | {"order_id": "actor"}
    answer = clients["trader"].post("/v1/commands", json=command)
    assert (answer.status_code, answer.json()["field"]) == (422, "actor")
    command |= {"actor": None, "correlation_id": None}
    headers = {"X-Request-Id": "who-asked"}
    clients["trader"].post("/v1/commands", json=command, headers=headers)
    events = clients["trader"].get("/v1/events", params={"account": OWN, "limit": 10_000}).json()
    (found,) = (one for one in events["data"] if one["command_id"] == command["command_id"])
    assert (found["actor"], found["correlation_id"]) == ("trader", "who-asked")


def test_a_portfolio_gives_its_accounts_as_they_are_now(
    guarded: Server, clients: dict[str, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.directory._TRUSTED_S", 0.0)
    everything = clients["all"]
    mine = {"account": OWN, "event_time": TIME, "portfolio": "mine"}
    assert everything.post("/v1/accounts", json=mine).status_code in (200, 201)
    parent = {"command_id": "pf1", "type": "DefinePortfolio", "key": "mine", "event_time": TIME}
    everything.post("/v1/commands", json=parent | {"data": {"parent": "house"}})
    with guarded.client(guarded.token("quant", portfolios=["house"])) as quant:
        assert quant.get(f"/v1/accounts/{OWN}/cash").status_code == 200
        assert quant.get(f"/v1/accounts/{FOREIGN}/cash").status_code == 404
        assert quant.get("/v1/portfolios/house/positions").status_code == 200
        assert quant.get("/v1/portfolios/mine/positions").status_code == 200
        theirs, nowhere = (
            quant.get(f"/v1/portfolios/{name}/positions") for name in ("theirs", "nowhere")
        )
        assert (theirs.status_code, theirs.content) == (404, nowhere.content)
        listed = quant.get("/v1/accounts").json()["data"]
        assert {row["account"] for row in listed} == {OWN, OTHER_OWN}
        assert quant.get(f"/v1/accounts/{OTHER_OWN}/cash").status_code == 200
        assert quant.get("/v1/accounts/%00/cash").status_code == 404
        moved = {"account": OTHER_OWN, "event_time": TIME, "portfolio": "theirs"}
        done = everything.post("/v1/accounts", json=moved)
        read_at(quant, "/v1/accounts", done.headers["Daybook-Position"])
        assert quant.get(f"/v1/accounts/{OTHER_OWN}/cash").status_code == 404


def test_a_portfolio_lies_below_the_parent_that_it_has_today(
    guarded: Server, clients: dict[str, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.directory._TRUSTED_S", 0.0)
    everything = clients["all"]
    told = {"account": "DATED", "event_time": TIME, "portfolio": "dated"}
    assert everything.post("/v1/accounts", json=told).status_code == 201
    assert everything.post("/v1/deals", json=deal("DATED", "D1")).status_code == 201
    desks = [f"desk{letter}" for letter in "ABC"]

    def seen_after(number: int, parent: str, **told: str) -> list[str]:
        """Tell the parent, and return the desks whose tokens see the account."""
        about = {"command_id": f"dated-{number}", "type": "DefinePortfolio", "key": "dated"}
        command = {**about, "event_time": TIME, "data": {"parent": parent, **told}}
        (answer,) = everything.post("/v1/commands", json=[command]).json()
        assert answer["status"] == "accepted", answer
        read_at(everything, "/v1/instruments", answer["position"])
        seen = []
        for desk in desks:
            with guarded.client(guarded.token("quant", portfolios=[desk])) as quant:
                codes = {
                    quant.get(f"/v1/{path}").status_code
                    for path in ("accounts/DATED/cash", "portfolios/dated/positions")
                }
                listed = quant.get("/v1/accounts").json()["data"]
            below = everything.get(f"/v1/portfolios/{desk}/positions").json().get("data")
            assert (codes, bool(listed), bool(below)) in (
                ({200}, True, True),
                ({404}, False, False),
            )
            seen += [desk] if 200 in codes else []
        return seen

    assert seen_after(1, "deskA") == ["deskA"]
    assert seen_after(2, "deskB", from_date="2024-01-01") == ["deskB"]
    assert seen_after(3, "deskC", from_date="2020-01-01") == ["deskB"]
    assert seen_after(4, "deskC", from_date="2200-01-01") == ["deskB"]
    assert seen_after(5, "deskC") == ["deskB"]  # without a date: since ever, until 2020


def test_the_whole_log_is_for_who_may_see_all(
    guarded: Server, clients: dict[str, httpx.Client]
) -> None:
    assert clients["compliance"].get("/v1/events").status_code == 403
    assert clients["compliance"].get("/v1/events?topic=reference").status_code == 200
    with guarded.client(guarded.token("compliance")) as compliance:
        assert compliance.get("/v1/events").status_code == 200


def test_who_has_some_accounts_gives_himself_no_others(
    guarded: Server, clients: dict[str, httpx.Client]
) -> None:
    define = {"type": "DefinePortfolio", "key": "theirs", "event_time": TIME}
    below = define | {"command_id": "below", "data": {"parent": "mine"}}
    with guarded.client(guarded.token("service", portfolios=["mine"])) as limited:
        for client in (limited, clients["service"]):
            answer = client.post("/v1/commands", json=below)
            assert (answer.status_code, answer.json()["type"][-9:]) == (403, "forbidden")
            (answer,) = client.post("/v1/commands", json=[below]).json()
            assert answer["reason"] == "forbidden"
        assert limited.get(f"/v1/accounts/{FOREIGN}/cash").status_code == 404
    everything = define | {"command_id": "above", "data": {"parent": "everything"}}
    assert clients["all"].post("/v1/commands", json=everything).status_code == 201


def test_the_past_of_a_portfolio_has_no_account_that_is_not_in_it_now(
    guarded: Server, clients: dict[str, httpx.Client]
) -> None:
    everything = clients["all"]
    for account in ("STAYS", "GOES"):
        for day, portfolio in (("01", "club"), ("03", "club" if account == "STAYS" else "other")):
            told = {"account": account, "event_time": f"2024-01-{day}T00:00:00Z"}
            everything.post("/v1/accounts", json=told | {"portfolio": portfolio})
        body = deal(account, "D1", event_time="2024-01-02T00:00:00Z")
        position = everything.post("/v1/deals", json=body).headers["Daybook-Position"]
    asked = {"as_of": "2024-01-02"}
    path = "/v1/portfolios/club/positions"
    rows = read_at(everything, path, position, **asked).json()["data"]
    assert {row["account"] for row in rows} == {"STAYS", "GOES"}
    with guarded.client(guarded.token("quant", portfolios=["club"])) as quant:
        for how in ({}, {"known_at": "2100-01-01"}, {"format": "csv"}):
            answer = quant.get(path, params=asked | how)
            assert answer.status_code == 200
            assert ("STAYS" in answer.text, "GOES" in answer.text) == (True, False), how
