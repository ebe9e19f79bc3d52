"""A ledger that is moved from its own server into Kafka, its read models left where they are.

All by the command line: the books are those of a ledger that stayed, asked before anybody decides
or projects, and after more was written.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.wiring import SCHEMA
from infra.embedded import embedded_server
from tests.api.command_line import CommandLine, command, json_line
from tests.api.conftest import NewDaybook
from tests.api.test_kafka_tls import running
from tests.streams.kafka_homes import KafkaHome, forget
from tests.waiting import until

FIX = str(Path(__file__).parents[1] / "data" / "fix44_sample.fix")
NOON = "2024-01-05T12:00:00Z"
QUERIES = ("positions", "lots", "deals", "orders", "balances")
DEALS = """account,instrument,quantity,price,currency,event_time,deal_id
A1,AAPL,-7,190,USD,2024-01-08T15:00:00Z,m1
B1,MSFT,5,300,USD,2024-01-03T15:00:00Z,m2
"""


@pytest.fixture
def statements(request: pytest.FixtureRequest) -> list[str]:
    """Statements of a broker as they came, where they are here."""
    try:
        folder: Path = request.getfixturevalue("shared_data")
    except pytest.skip.Exception:
        return []
    return [str(folder / "ibkr-flex" / f"flex-{number}.xml") for number in ("01", "12", "14")]


@pytest.fixture
def place(kafka_bootstrap: str) -> Iterator[KafkaHome]:
    """The namespace whose read models have the schema of a ledger that is not in Kafka."""
    fresh = KafkaHome(kafka_bootstrap, SCHEMA, partitions=16)
    forget(fresh)
    yield fresh
    forget(fresh)


def transfer(name: str, **told: Any) -> dict[str, Any]:
    return command(f"send-{name}", "SendTransfer", "A1", NOON, transfer_id=name, **told)


def cash(amount: str) -> list[dict[str, Any]]:
    return [{"amount": amount, "currency": "USD"}]


UNITS = [{"instrument": "AAPL", "quantity": "30", "currency": "USD"}]
BEFORE = (
    command("open-b", "OpenAccount", "B1", NOON, base_currency="USD"),
    command("price", "RecordPrice", "AAPL", NOON, price="191.5", currency="USD"),
    transfer("t1", to_account="B1", cash=cash("40")),
    transfer("t2", to_account="B1", legs=UNITS),
    transfer("t3", to_account="nobody", cash=cash("2")),
)
AFTER = (
    transfer("t4", to_account="B1", cash=cash("3.5")),
    transfer("t5", to_account="nobody", cash=cash("1")),
)


def submit(book: CommandLine, *commands: dict[str, Any]) -> None:
    """Submit commands until somebody has answered, which a decider that starts does not at once."""
    given = "".join(map(json_line, commands))
    until(lambda: book("submit", "-", given=given).code == 0)


def told(book: CommandLine) -> dict[str, list[dict[str, Any]]]:
    """Return what a ledger answers, but for when it learned of it."""
    return {
        query: [
            {name: value for name, value in row.items() if name != "recorded_time"}
            for row in book.rows(query)
        ]
        for query in QUERIES
    }


def is_projected(book: CommandLine) -> bool:
    done = book("status", "--json")
    return done.code == 0 and all(one["lag"] <= 0 for one in done.json["projections"])


@pytest.mark.timeout(900)
def test_the_books_are_those_of_a_ledger_that_stayed(
    new_daybook: NewDaybook, place: KafkaHome, statements: list[str], tmp_path: Path
) -> None:
    book, stayed = CommandLine(tmp_path), new_daybook()
    first, later = [FIX, *statements[:2]], statements[2:]
    with embedded_server(book.home):
        book.good("import", *first)
        submit(book, *BEFORE)
        books, records = told(book), book.good("log").lines
        url = f"kafka://{place.hosts}/{place.namespace}"
        assert "records in both" in book.good("migrate-log", url).out
        book.environment["DAYBOOK_LOG_URL"] = url
        assert book.rows("positions") == books["positions"], "nobody decides or projects yet"
        assert book.good("log").lines == records
        with running(book, "decider"), running(book, "worker"):
            submit(book, *BEFORE)
            assert book.good("import", *first, "--json").json["accepted"] == 0
            until(lambda: is_projected(book))
            assert told(book) == books
            submit(book, *AFTER)
            book.good("import", book.write("deals.csv", DEALS), *later)
            until(lambda: is_projected(book))
            moved = told(book)
            assert "the books equal the log" in book.good("verify").out
    stayed.good("import", *first, stayed.write("deals.csv", DEALS), *later)
    submit(stayed, *BEFORE, *AFTER)
    assert moved == told(stayed)
