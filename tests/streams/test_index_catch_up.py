"""The decider's index is disposable: it is made again from the log, the same to the byte."""

import pytest

from domain import decider
from streams.index_catch_up import catch_up
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from tests.streams.books import index_rows, rebuild_index
from tests.streams.requests import cash, deal, define, open_account, price, send

STORY = [
    open_account("A1"),
    open_account("A2"),
    define("AAPL"),
    *(deal(f"c{n}", "A1", f"d{n}") for n in range(30)),
    deal("x1", "A1", "d1", "77"),
    *(cash(f"m{n}", "A2", f"m{n}") for n in range(5)),
    price("p1", "AAPL"),
    define("AAPL", sector="technology"),
    send("t1", "A1", "t1", "A2"),
]


@pytest.fixture
def story(ledger: Ledger) -> list[str]:
    statuses = [answer.status for answer in ledger.submit(STORY)]
    assert statuses.count("accepted") == len(STORY) - 1
    return statuses


def rows(log: PostgresLog) -> dict[str, list[tuple[object, ...]]]:
    connection = log.connect()
    found = index_rows(connection)
    connection.close()
    # Partitions that nobody wrote to have no checkpoint until they are rebuilt.
    found["decider_checkpoints"] = [row for row in found["decider_checkpoints"] if row[3] > 1]
    return found


@pytest.mark.usefixtures("story")
def test_rebuilt_it_is_the_same_to_the_byte(log: PostgresLog) -> None:
    before = rows(log)
    assert len(before["decider_entities"]) > 30
    rebuild_index(log)
    assert rows(log) == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE decider_checkpoints SET format = 0",
        "UPDATE decider_checkpoints SET format = 0; UPDATE decider_entities SET state = 'other'",
        "DELETE FROM decider_checkpoints; DELETE FROM decider_entities",
        "DELETE FROM decider_checkpoints; DELETE FROM decider_streams",
    ],
)
@pytest.mark.usefixtures("story")
def test_an_index_of_another_format_is_made_again_before_anything_is_decided(
    ledger: Ledger, log: PostgresLog, damage: str
) -> None:
    before = rows(log)
    connection = log.connect()
    connection.execute(damage.encode())
    connection.close()
    again = ledger.submit([deal("y1", "A1", "d1"), deal("y2", "A1", "d2", "78")])
    assert [answer.status for answer in again] == ["duplicate", "refused"]
    for place in [("events", n) for n in range(16)] + [("prices", n) for n in range(16)]:
        writer = log.connect()
        catch_up(log, writer, place, decider.evolve)  # type: ignore[arg-type]
        writer.close()
    after = rows(log)
    assert after["decider_entities"] == before["decider_entities"]


@pytest.mark.usefixtures("story")
def test_at_the_head_there_is_nothing_to_do(log: PostgresLog) -> None:
    before = rows(log)
    writer = log.connect()
    catch_up(log, writer, ("events", 3), decider.evolve)
    writer.close()
    assert rows(log) == before
