"""A store that goes away: requests are told so, and served again once it is back."""

import os
import signal
import time
from pathlib import Path

import httpx

from infra.embedded import attach, embedded_server
from tests import waiting
from tests.api.http.server import cash, read_at, served

_PATIENCE_S = 120.0


def until(client: httpx.Client, cash_id: str, wanted: set[int]) -> int:
    """Send a write until it is answered with one of these; return the last answer's status."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        headers = {"Idempotency-Key": cash_id}
        status = client.post("/v1/cash", json=cash("O1", cash_id, "1"), headers=headers).status_code
        if status in wanted or time.monotonic() > deadline:
            return status
        assert status in (200, 201, 503, 504), status
        time.sleep(0.1)


def test_a_store_may_go_away_and_come_back(tmp_path: Path) -> None:
    database = tmp_path / "database"
    with (
        embedded_server(database) as dsn,
        served(tmp_path / "home", dsn) as server,
        server.client() as client,
    ):
        assert until(client, "C1", {201}) == 201
        assert client.get("/v1/accounts/O1/balances").json()["data"][0]["balance"] == "1"
        (pid_file,) = database.rglob("postmaster.pid")
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
        # It hears the signal in its own time.
        while (answer := client.post("/v1/cash", json=cash("O1", "C2", "1"))).is_success:
            pass
        assert answer.status_code == 503, answer.text
        assert answer.json()["type"] == "urn:daybook:problem:unavailable"
        assert "postgres" not in answer.text.lower()
        assert client.get("/healthz").status_code == 200
        back = attach(database)
        try:
            assert until(client, "C3", {200, 201}) in (200, 201)
            waiting.until(lambda: client.get("/readyz").status_code == 200)
            position = client.post("/v1/cash", json=cash("O1", "C4", "1")).headers
            read = read_at(client, "/v1/accounts/O1/cash", position["Daybook-Position"])
            rows = read.json()["data"]
            assert {"C1", "C3", "C4"} <= {row["cash_id"] for row in rows}
        finally:
            back.release()
