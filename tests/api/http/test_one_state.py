"""Rows that are put together, and the position that is told with them, are of one state."""

from typing import Any

import httpx
import pytest

from api.http import pages
from tests.api.http.server import TIME, deal, order, read_at


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("balances", {}),
        ("lots", {"method": "lifo"}),
        ("deals", {"as_of": TIME}),
        ("positions", {"as_of": "2024-06-01"}),
        ("orders", {"as_of": "2024-06-01"}),
    ],
)
def test_what_is_written_while_rows_are_read_is_not_in_them(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch, model: str, told: dict[str, str]
) -> None:
    account = f"one-{model}"
    path = f"/v1/accounts/{account}/{model}"
    written = "/v1/orders" if model == "orders" else "/v1/deals"
    body = order if model == "orders" else deal
    assert api.post(written, json=body(account, "1")).status_code == 201
    before = api.get(path, params=told).json()
    position_now = pages.position_now
    further: list[str] = []

    def written_after(*asked: Any) -> str:
        """Return the position, once something more is in the tables."""
        position = position_now(*asked)
        if not further:
            done = api.post(written, json=body(account, "2"))
            further.append(done.headers["Daybook-Position"])
            for stored in ("deals", "cash", "orders"):
                read_at(api, f"/v1/accounts/{account}/{stored}", further[0])
        return position

    monkeypatch.setattr(pages, "position_now", written_after)
    # Another limit is another question: one that was answered may be answered from memory.
    assert api.get(path, params={**told, "limit": "500"}).json() == before
    after = api.get(path, params={**told, "limit": "600"}).json()
    assert further
    assert after["data"] != before["data"]
    assert after["position"] != before["position"]
