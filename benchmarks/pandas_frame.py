"""All deals of an account as a pandas frame, by the client: Arrow types, decimals, and by JSON.

Server and client share the machine; each figure is a whole call, from the question to the frame,
brought to a million deals.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pandas as pd  # type: ignore[import-untyped]
from daybook_client import Client

from api.wiring import running
from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.http_queries import served
from benchmarks.rows import Row, best_seconds

DEALS: Final = {False: 100_000, True: 1_000_000}
_TIMES: Final = 2


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
    table = client.deals("A00000")
    assert len(table.arrow()) == deals  # the first opens the server's connection
    by_json = _seconds_a_million(lambda: _by_json(url), deals, times=1)
    rows = []
    for what, decimals, target in (("Arrow types", False, 1.5), ("decimals", True, 4.0)):
        start = time.process_time()
        frame = table.pandas(decimals=decimals)
        cpu_s = (time.process_time() - start) * 1_000_000 / deals
        assert len(frame) == deals
        rows.append(
            Row(
                what=f"a million deals to a pandas frame, {what}",
                unit="s",
                ours=_seconds_a_million(partial(table.pandas, decimals=decimals), deals, _TIMES),
                beside="by JSON, page by page, amounts as text",
                other=by_json,
                target=target,
                note=f"from {deals:,}; of it, CPU time of the client's process: {cpu_s:.2f} s",
            )
        )
    return rows


def _seconds_a_million(run: Callable[[], object], deals: int, times: int) -> float:
    return best_seconds(run, times) * 1_000_000 / deals


def _by_json(base_url: str) -> Any:
    """Return the frame that JSON alone makes: what a script without the client does."""
    rows: list[dict[str, Any]] = []
    told: dict[str, str] = {"limit": "10000"}
    with httpx.Client(timeout=60) as plain:
        while True:
            page = plain.get(f"{base_url}/v1/accounts/A00000/deals", params=told).json()
            rows += page["data"]
            if page["next"] is None:
                return pd.DataFrame(rows)
            told["cursor"] = page["next"]
