"""Read models of another version: who meets them is told so, and leaves them as they are."""

from collections.abc import Callable
from pathlib import Path

import psycopg

from projections.cash.fold import PROJECTION
from tests.api.command_line import CommandLine
from tests.api.http.server import cash, read_at, served


def test_an_older_program_is_told_and_changes_nothing(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    database = new_database()
    settings = {"DAYBOOK_LOG_URL": database, "DAYBOOK_STORE_URL": database}
    daybook = CommandLine(tmp_path, **settings)
    with (
        served(daybook.home, database) as server,
        server.client() as client,
        psycopg.connect(database, autocommit=True, options="-c search_path=daybook") as connection,
    ):
        written = client.post("/v1/cash", json=cash("V1", "C1", "5"))
        read_at(client, "/v1/accounts/V1/cash", written.headers["Daybook-Position"])
        connection.execute("UPDATE projections SET version = version + 1 WHERE name = 'cash'")
        connection.execute("ALTER TABLE cash RENAME COLUMN amount TO amounts")
        # What was asked before would be given again from memory.
        answer = client.get("/v1/accounts/V1/cash", params={"limit": 7})
        assert answer.status_code == 503, answer.text
        problem = answer.json()
        assert problem["type"] == "urn:daybook:problem:unavailable"
        assert "another version of Daybook" in problem["detail"]
        done = daybook("balances")
        assert done.code == 3
        here = PROJECTION.version
        told = f"the tables of cash (version {here + 1}, here {here}) are newer than this program"
        assert told in done.err
        made = connection.execute("SELECT version FROM projections WHERE name = 'cash'")
        assert made.fetchone() == (here + 1,)
    assert "cash: " in daybook.good("rebuild", "cash").out
    assert [row["balance"] for row in daybook.rows("balances")] == ["5"]
    with psycopg.connect(database, options="-c search_path=daybook") as connection:
        connection.execute("ALTER TABLE cash RENAME COLUMN amount TO amounts")
    done = daybook("cash")
    assert done.code == 3
    assert "made by another version of Daybook, or not yet" in done.err
