"""`daybook park`: it takes the record at which readers stand still, and says so of no other."""

import psycopg
import pytest

from schemas.codec import record_hash
from schemas.partitioning import partition_of
from streams.log import Draft
from streams.postgres_log import PostgresLog
from tests.api.command_line import CommandLine, Done

DEALS = "account,deal_id,instrument,side,quantity,price,currency,event_time\n" + "".join(
    f"A1,d{number},AAPL,buy,1,100,USD,2024-01-02T10:0{number}:00Z\n" for number in range(4)
)
JUNK = b"no record"


@pytest.fixture
def book(daybook: CommandLine) -> CommandLine:
    """Four deals of an account that are projected."""
    assert daybook.imported("deals.csv", DEALS)["accepted"] == 4
    assert len(daybook.rows("deals")) == 4
    return daybook


def places(book: CommandLine) -> list[tuple[str, str]]:
    """Return position and digest of the account's records."""
    return [(line["position"], line["hash"]) for line in book.good("log", "--account", "A1").lines]


def refused(done: Done) -> str:
    assert (done.code, done.out) == (2, "")
    return done.err


def test_only_what_stands_in_the_way_is_parked(book: CommandLine) -> None:
    partition = partition_of("A1", 16)
    log = PostgresLog.open(book.environment["DAYBOOK_LOG_URL"], "daybook")
    offset = log.append("events", partition, [Draft("A1", JUNK)])
    created = record_hash(log.read("events", partition, 0, 1)[0].value)
    log.close()
    place, digest = f"{partition}:{offset}", record_hash(JUNK)
    heads = book.good("log").out
    assert "stands still" in refused(book("park", *places(book)[0]))
    assert "stands still" in refused(book("park", f"{partition}:0", created))
    assert "one record" in refused(book("park", f"{place},prices/0:1", digest))
    assert "SHA-256" in refused(book("park", place, "0" * 64))
    assert book.good("log").out == heads, "nothing was recorded"
    told = book("status")
    assert told.code == 1
    assert f"to set that record aside: daybook park {place} {digest}\n" in told.out
    assert book.good("park", place, digest).out == f"{place} is parked\n"
    assert "stands still" in refused(book("park", place, digest)), "it stands in nobody's way"
    assert len(book.rows("deals", "--known-at", place)) == 4
    assert [row["balance"] for row in book.rows("balances", "--known-at", place)] == ["-400"]
    (account,) = book.rows("accounts", "--as-of", "2024-01-02")
    assert account["account"] == "A1"
    assert book.good("status").out


def test_what_only_a_fresh_reader_halts_at_may_be_parked(book: CommandLine) -> None:
    """Read models had passed it before the record in front of it was altered."""
    (before, _), (place, digest) = places(book)[1:3]
    partition, _, offset = before.partition(":")
    url = book.environment["DAYBOOK_LOG_URL"]
    with psycopg.connect(url, options="-c search_path=daybook") as connection:
        connection.execute("SET session_replication_role = replica")
        altered = connection.execute(
            "UPDATE log_records SET value = set_byte(value, 20, get_byte(value, 20) # 1)"
            ' WHERE topic = 0 AND partition = %s AND "offset" = %s',
            (int(partition), int(offset)),
        )
        assert altered.rowcount == 1
    assert book.good("status").out
    assert book.good("park", place, digest).out == f"{place} is parked\n"
