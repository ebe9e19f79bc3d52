"""`daybook serve` as a process: it starts, shares its home, survives being killed, and ends."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.command_line import CommandLine
from tests.api.http.server import cash, read_at
from tests.beside import beside
from tests.waiting import until

_PATIENCE_S = 120.0


@contextlib.contextmanager
def process(daybook: CommandLine, *words: str) -> Iterator[Any]:
    """Run `daybook serve`; yields the process and a client of it."""
    running = daybook.start("serve", "--port", "0", *words)
    try:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        assert url.startswith("http://"), running.communicate()
        with httpx.Client(base_url=url, timeout=_PATIENCE_S) as client:
            yield running, client
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
        try:
            running.communicate(timeout=_PATIENCE_S)
        finally:
            running.kill()


def deposits(client: httpx.Client, account: str, how_many: int, name: str) -> list[str]:
    """Make deposits of 1; return the ids of those that were acknowledged."""
    made = []
    for number in range(how_many):
        cash_id = f"{name}{number}"
        try:
            answer = client.post(
                "/v1/cash",
                json=cash(account, cash_id, "1"),
                headers={"Idempotency-Key": cash_id},
            )
        except httpx.TransportError:
            break
        assert answer.status_code in (200, 201), answer.text
        made.append(cash_id)
    return made


def balance(client: httpx.Client, account: str, position: str) -> str:
    answer = read_at(client, f"/v1/accounts/{account}/balances", position)
    return str(answer.json()["data"][0]["balance"])


def test_it_says_what_is_protected_and_ends_well(daybook: CommandLine) -> None:
    running = daybook.start("serve", "--port", "0")
    assert running.stdout is not None
    url = running.stdout.readline().strip()
    assert httpx.get(url + "/readyz", timeout=_PATIENCE_S).json()["status"] == "ready"
    page = httpx.get(url + "/", timeout=_PATIENCE_S)
    assert page.headers["Content-Type"].startswith("text/html")
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=_PATIENCE_S)
    assert running.returncode == 0, err
    assert "no token is needed" in err
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_said_so(daybook: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = daybook("serve", "--port", str(taken.getsockname()[1]))
    assert done.code == 3
    assert "--port" in done.err


def test_a_token_is_needed_once_there_is_a_key(daybook: CommandLine) -> None:
    with process(daybook) as (_, client):
        assert client.get("/v1/accounts").status_code == 200
        told = daybook.good("token", "--role", "quant").out.strip()
        until(lambda: client.get("/v1/accounts").status_code != 200)
        headers = {"Authorization": f"Bearer {told}"}
        assert client.get("/v1/accounts", headers=headers).status_code == 200


def test_two_servers_and_the_command_line_share_a_home(daybook: CommandLine) -> None:
    with process(daybook) as (_, one), process(daybook) as (_, other):
        with beside(partial(deposits, one, "S1", 30, "a"), partial(deposits, other, "S1", 30, "b")):
            pass
        last = one.post("/v1/cash", json=cash("S1", "last", "1")).headers["Daybook-Position"]
        assert balance(other, "S1", last) == "61"
        (row,) = daybook.rows("balances", "--account", "S1")
        assert row["balance"] == "61"
        command = cash("S1", "by-hand", "1")
        about = {name: command.pop(name) for name in ("account", "event_time")}
        (answer,) = daybook.submitted(
            {"command_id": "c", "type": "MoveCash", **about, "data": command}
        )
        assert balance(other, "S1", answer["position"]) == "62"


def test_what_was_acknowledged_survives_a_kill(daybook: CommandLine) -> None:
    made: list[str] = []
    with (
        process(daybook) as (running, client),
        beside(lambda: made.extend(deposits(client, "K1", 100_000, "k"))),
    ):
        try:
            until(lambda: len(client.get("/v1/accounts/K1/cash").json().get("data", [])) >= 20)
        finally:
            os.kill(running.pid, signal.SIGKILL)
    assert len(made) >= 20
    with process(daybook) as (_, client):
        again = deposits(client, "K1", len(made) + 1, "k")  # the last may have landed unheard
        assert again[:-1] == made
        position = client.post("/v1/cash", json=cash("K1", "end", "1")).headers["Daybook-Position"]
        assert balance(client, "K1", position) == str(len(made) + 2)
    assert daybook("verify").code == 0


def test_requests_under_way_are_answered_before_it_ends(daybook: CommandLine) -> None:
    with process(daybook) as (running, client):
        answers: list[int] = []

        def ask() -> None:
            told = {"min_position": "0:99999"}
            answers.append(client.get("/v1/accounts", params=told).status_code)

        with beside(ask):
            # The one that asks for it is under way, too.
            under_way = "daybook_http_requests_under_way 2.0"
            until(lambda: under_way in client.get("/metrics").text)
            running.send_signal(signal.SIGTERM)
        running.wait(_PATIENCE_S)
        assert answers == [504]
        assert running.returncode == 0


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/none"])
def test_a_ledger_that_is_not_there_is_said_so(tmp_path: Path, url: str) -> None:
    daybook = CommandLine(tmp_path, DAYBOOK_LOG_URL=url, DAYBOOK_STORE_URL=url)
    done = daybook("serve", "--port", "0")
    assert done.code == 3
    assert "not available" in done.err
