"""The notebook of docs/ runs from first cell to last against a real server, and tells the truth."""

import ast
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.api.client.conftest import PACKAGE
from tests.api.command_line import CommandLine
from tests.api.http.feed.serving import Served

NOTEBOOK = Path(__file__).parents[3] / "docs" / "notebooks" / "first-five-minutes.ipynb"
ACCOUNTS = "account,base_currency,method\nA1,USD,fifo\n"
INSTRUMENTS = """instrument,kind,currency
AAPL,equity,USD
MSFT,equity,USD
"""
CASH = "account,cash_id,kind,amount,currency,event_time\nA1,C1,deposit,50000.25,USD,2024-01-01\n"
DEALS = """account,deal_id,instrument,side,quantity,price,currency,event_time,fee
A1,D1,AAPL,buy,100,185.505,USD,2024-01-02T14:30:00Z,1.00
A1,D2,MSFT,buy,0.123456789,370.87,USD,2024-01-03T15:00:00Z,1.00
A1,D3,AAPL,sell,40,190.10,USD,2024-01-11T19:45:12.250Z,1.20
"""
PRICES = """instrument,price,currency,event_time
AAPL,184.25,USD,2024-01-03
AAPL,185.92,USD,2024-01-12
MSFT,388.47,USD,2024-01-12
"""


@pytest.fixture(scope="module")
def book(new_daybook: Callable[[], CommandLine]) -> Iterator[Served]:
    """A server over a small book that was imported."""
    daybook = new_daybook()
    files = {"accounts": ACCOUNTS, "instruments": INSTRUMENTS, "cash": CASH, "deals": DEALS}
    for name, content in {**files, "prices": PRICES}.items():
        daybook.imported(f"{name}.csv", content)
    server = Served(daybook)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def told(book: Served) -> dict[str, Any]:
    """What the last cell of the notebook shows."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    environment = book.daybook.environment | {
        "DAYBOOK_URL": book.url,
        "PYTHONPATH": str(PACKAGE),
        "ACCOUNT": "A1",
    }
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=environment)
    (output,) = notebook.cells[-1].outputs
    result: dict[str, Any] = ast.literal_eval(output.data["text/plain"])
    return result


def test_it_tells_what_the_command_line_tells(book: Served, told: dict[str, Any]) -> None:
    rows = book.daybook.rows("positions", "--account", "A1")
    early = book.daybook.rows("positions", "--account", "A1", "--as-of", "2024-01-02")
    assert told["held"] == {row["instrument"]: row["quantity"] for row in rows}
    assert told["held"] == {"AAPL": "60", "MSFT": "0.123456789"}
    assert told["cost"] == {row["instrument"]: row["cost_basis"] for row in rows}
    assert told["early"] == {row["instrument"]: row["quantity"] for row in early}
    assert (told["known"], told["unknown"]) == (2, 0)


def test_its_values_are_cash_and_marked_positions(told: dict[str, Any]) -> None:
    funded, unit = Decimal("50000.25"), Decimal("0.123456789")
    cash = funded - 100 * Decimal("185.505") - 1 - unit * Decimal("370.87") - 1
    assert {day: Decimal(text) for day, text in told["value"].items()} == {
        # MSFT has no mark yet, so it counts for nothing.
        "2024-01-03": cash + 100 * Decimal("184.25"),
        "2024-01-12": cash
        + (40 * Decimal("190.10") - Decimal("1.20"))
        + 60 * Decimal("185.92")
        + unit * Decimal("388.47"),
    }


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
