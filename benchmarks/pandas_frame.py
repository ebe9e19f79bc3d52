"""All deals of an account as a pandas frame, by the client: Arrow types, decimals, and by JSON.

Server and client share the machine; each figure is a whole call, from the question to the frame,
brought to a million deals. The first call reads all of the store; later ones read a copy and what
has changed since: before each of them some deals are told.
"""

import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx
import pandas as pd  # type: ignore[import-untyped]
from daybook_client import Client

from api.wiring import running
from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.http_queries import served
from benchmarks.rows import Row

DEALS: Final = {False: 100_000, True: 1_000_000}
_ACCOUNT: Final = "A00000"
_TIMES: Final = 2
_TOLD: Final = 100


def main(*, full: bool = False) -> list[Row]:
    """Serve a book of one account and take all its deals."""
    deals = DEALS[full]
    with fresh_home() as home, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deals.csv"
        write_deals(path, deals, accounts=1)
        with running(home.settings) as parts:
            import_deals(parts, path, deals)
            parts.projector.catch_up()
        with served(home.folder) as port:
            url = f"http://127.0.0.1:{port}"
            with Client(url) as client:
                return _pulled(client, url, deals)


def _pulled(client: Client, url: str, deals: int) -> list[Row]:
    client.balances(_ACCOUNT).arrow()  # the first opens the server's connection
    book = _Book(client, deals)
    first = book.seconds(decimals=False)
    again = {
        exact: min(book.told(decimals=exact) for _ in range(_TIMES)) for exact in (False, True)
    }
    start = time.perf_counter()
    _by_json(url)
    by_json = (time.perf_counter() - start) * 1_000_000 / deals
    return [
        Row(
            what=f"a million deals to a pandas frame, {what}",
            unit="s",
            ours=ours,
            beside="by JSON, page by page, amounts as text",
            other=by_json,
            target=target,
            note=f"from {deals:,}",
        )
        for what, ours, target in (
            ("Arrow types, the first time", first, 1.5),
            ("Arrow types, after some more deals", again[False], 1.5),
            ("decimals, after some more deals", again[True], 4.0),
        )
    ]


class _Book:
    """The deals of one account, and how many there are."""

    def __init__(self, client: Client, deals: int) -> None:
        self._client = client
        self._deals = deals

    def told(self, *, decimals: bool) -> float:
        """Tell some more deals and take all; see `seconds`."""
        told = [_deal(self._deals + number) for number in range(_TOLD)]
        answers = self._client.submit_all(told)
        self._deals += _TOLD
        position = answers[-1].position
        self._client.deals(_ACCOUNT, until="2000-01-01", min_position=position).rows()
        return self.seconds(decimals=decimals)

    def seconds(self, *, decimals: bool) -> float:
        """Take all deals, and return how many seconds a million of them take."""
        start = time.perf_counter()
        frame = self._client.deals(_ACCOUNT).pandas(decimals=decimals)
        taken = time.perf_counter() - start
        assert len(frame) == self._deals
        return taken * 1_000_000 / self._deals


def _deal(number: int) -> dict[str, Any]:
    return {
        "command_id": f"told-{number}",
        "type": "RecordDeal",
        "account": _ACCOUNT,
        "event_time": "2024-12-31T14:30:00Z",
        "data": {
            "deal_id": f"T{number}",
            "instrument": "I001",
            "side": "buy",
            "quantity": "100",
            "price": "185.64",
            "currency": "USD",
        },
    }


def _by_json(base_url: str) -> Any:
    """Return the frame that JSON alone makes: what a script without the client does."""
    rows: list[dict[str, Any]] = []
    told: dict[str, str] = {"limit": "10000"}
    with httpx.Client(timeout=60) as plain:
        while True:
            page = plain.get(f"{base_url}/v1/accounts/{_ACCOUNT}/deals", params=told).json()
            rows += page["data"]
            if page["next"] is None:
                return pd.DataFrame(rows)
            told["cursor"] = page["next"]
