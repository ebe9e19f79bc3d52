"""A real server in a thread of the tests, over a real ledger, and clients of it."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import uvicorn
from msgspec import Struct

from api.cli.serve import Wanted, claims_of
from api.http.app import create_app
from api.http.keys import signing_key
from api.http.protocol import protocol
from api.http.services import Options, Services, running_services
from infra.settings import Settings, load_settings

TIME = "2024-01-02T14:30:00Z"
_PATIENCE_S = 120.0


class Server(Struct):
    """A server that runs: its address, its settings, its inner parts for those who must look."""

    url: str
    settings: Settings
    services: Services

    def client(self, token: str | None = None, **how: Any) -> httpx.Client:
        """Return a client, with a token where one is given."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, **how)

    def token(self, role: str, **told: Any) -> str:
        """Return a token as `daybook token` prints it."""
        return token(self.settings.home, role, **told)


def token(home: Path, role: str, **told: Any) -> str:
    """Return a token signed with a home's key, which is made where there is none."""
    changes = {name: told.pop(name) for name in ("claims", "headers") if name in told}
    kid, key = signing_key(home)
    claims = claims_of(Wanted(role=role, **told)) | changes.get("claims", {})
    headers = {"kid": kid} | changes.get("headers", {})
    return jwt.encode(claims, key.key, key.algorithm_name, headers=headers)


@contextlib.contextmanager
def served(home: Path, database: str, **options: Any) -> Iterator[Server]:
    """Run a server for the length of a block, which waits for its own writes on any machine."""
    environ = {"DAYBOOK_LOG_URL": database, "DAYBOOK_STORE_URL": database}
    settings = load_settings(home, environ=environ, folder=home.parent)
    ready = threading.Event()
    held: dict[str, Any] = {}

    async def run() -> None:
        options.setdefault("requests_a_second", 0)
        async with running_services(settings, Options(**options)) as services:
            config = uvicorn.Config(
                create_app(services),
                port=0,
                http=protocol(),
                ws="websockets-sansio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
            )
            server = uvicorn.Server(config)
            held.update(server=server, services=services)
            task = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
                await asyncio.sleep(0.01)
            held["port"] = server.servers[0].sockets[0].getsockname()[1]
            ready.set()
            await task

    def go() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            held["error"] = error
            raise
        finally:
            ready.set()

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        ready.wait(_PATIENCE_S)
        assert "port" in held, held
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("api.http.services.OWN_WRITES_S", _PATIENCE_S)
            yield Server(f"http://127.0.0.1:{held['port']}", settings, held["services"])
    finally:
        if "server" in held:
            held["server"].should_exit = True
        thread.join(_PATIENCE_S)
        assert not thread.is_alive(), "the server does not end"


def read_at(api: httpx.Client, path: str, position: str, **told: Any) -> httpx.Response:
    """Read as of a position, again for as long as a slow machine takes until it is there."""
    told = {**told, "min_position": position}
    deadline = time.monotonic() + _PATIENCE_S
    while (answer := api.get(path, params=told)).status_code in (404, 503, 504):
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    return answer


def cash(account: str, cash_id: str, amount: str = "100.50") -> dict[str, Any]:
    """Return the body of a deposit."""
    about = {"account": account, "event_time": TIME, "currency": "USD", "kind": "deposit"}
    return {**about, "cash_id": cash_id, "amount": amount}


def deal(account: str, deal_id: str, **told: Any) -> dict[str, Any]:
    """Return the body of a deal."""
    about = {"account": account, "event_time": TIME, "deal_id": deal_id, "instrument": "AAPL"}
    terms = {"side": "buy", "quantity": "10", "price": "185.64", "currency": "USD"}
    return {**about, **terms, **told}


def order(account: str, order_id: str, **told: Any) -> dict[str, Any]:
    """Return the body of an order."""
    about = {"account": account, "event_time": TIME, "order_id": order_id, "instrument": "AAPL"}
    return {**about, "side": "buy", "quantity": "10", "order_type": "market", **told}
