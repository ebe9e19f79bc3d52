"""The commands that look after a ledger, its settings, and how commands end."""

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from infra.embedded import embedded_server
from tests.api.command_line import DAYBOOK, CommandLine
from tests.api.conftest import NewDaybook
from tests.waiting import until

HEADER = "account,deal_id,instrument,side,quantity,price,currency,event_time\n"


def deals(count: int, start: int = 0) -> str:
    """A file of deals on three accounts."""
    rows = (
        f"A{number % 3},d{number},I{number % 4},{'sell' if number % 3 else 'buy'},"
        f"{1 + number % 9},{100 + number % 13}.25,USD,2024-01-02T10:{number % 60:02d}:00Z\n"
        for number in range(start, start + count)
    )
    return HEADER + "".join(rows)


@pytest.fixture(scope="module")
def book(new_daybook: NewDaybook) -> CommandLine:
    """Forty deals; no test of this module changes them."""
    made = new_daybook()
    assert made.imported("deals.csv", deals(40))["accepted"] == 40
    return made


# --- log, status, rebuild ----------------------------------------------------------------------


def test_the_log_is_printed_as_stored_with_position_and_hash(book: CommandLine) -> None:
    out = book.good("log", "--json").out
    heads: dict[str, tuple[int, str]] = {}
    offsets: dict[str, int] = {}
    for text in out.splitlines():
        line = json.loads(text)
        value = text[: text.index(',"position":')] + "}"
        assert line["hash"] == hashlib.sha256(value.encode()).hexdigest()
        partition, _, offset = line["position"].partition(":")
        assert int(offset) == offsets.get(partition, -1) + 1
        offsets[partition] = int(offset)
        if line["type"] == "LogCreated":
            continue
        seq, before = heads.get(line["account"], (0, "0" * 64))
        assert (line["seq"], line.get("prev_hash", "0" * 64)) == (seq + 1, before)
        heads[line["account"]] = (line["seq"], line["hash"])
        assert line["event_time"].endswith("Z")
    assert {account: seq for account, (seq, _) in heads.items()} == {"A0": 15, "A1": 14, "A2": 14}
    own = book.good("log", "--account", "A1").lines
    assert [line["seq"] for line in own] == list(range(1, 15))
    after = book.good("log", "--account", "A1", "--after", own[9]["position"]).lines
    assert after == own[10:]
    ends = ",".join(f"{partition}:{offset}" for partition, offset in offsets.items())
    assert book.good("log", "--after", ends).out == ""
    for words in (
        ("--after", "77:1"),
        ("--after", "prices/3:1"),
        ("--topic", "prices", "--after", ends),
    ):
        done = book("log", *words)
        assert (done.code, done.out) == (2, "")
        assert "--after" in done.err


def test_status_tells_heads_checkpoints_and_lag(book: CommandLine) -> None:
    book.good("positions")
    told = book.good("status", "--json").json
    assert {one["partition"] for one in told["partitions"]} == set(range(16))
    assert sum(one["head"] for one in told["partitions"]) == 43
    heads = {one["partition"]: one["head"] for one in told["partitions"]}
    names = set()
    for one in told["projections"]:
        assert (one["lag"], one["halted"]) == (0, None)
        if one["topic"] == "events":
            assert one["checkpoint"] == heads[one["partition"]]
        names.add(one["name"])
    assert {"accounts", "instruments", "prices", "orders", "positions", "cash"} <= names
    assert "43 events" in book.good("status").out


def test_status_tells_where_sql_may_be_asked(tmp_path: Path) -> None:
    book = CommandLine(tmp_path)
    assert book.imported("deals.csv", deals(3))["accepted"] == 3
    book.good("deals")
    url = book.good("status", "--json").json["sql"]
    assert url in book.good("status").out
    with embedded_server(book.home), psycopg.connect(url) as reader:
        assert reader.execute("SELECT count(*) FROM deals").fetchone() != (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT * FROM daybook.deals")


def test_rebuilt_read_models_are_the_same(book: CommandLine) -> None:
    queries = ("positions", "lots", "deals", "balances", "accounts", "instruments")
    before = [book.rows(query) for query in queries]
    book.good("rebuild")
    assert [book.rows(query) for query in queries] == before
    assert "positions" in book.good("rebuild", "positions").out
    assert book.rows("positions") == before[0]
    done = book("rebuild", "nothing")
    assert (done.code, "one of" in done.err) == (2, True)


# --- verify ------------------------------------------------------------------------------------

_RECORD = "WHERE topic = 0 AND key = 'A1' AND \"offset\" = {offset}"
_BYTE = "set_byte(value, 20, get_byte(value, 20) # 1)"
_HASH = "set_byte(hash, 3, get_byte(hash, 3) # 1)"
_LOT = "account = 'A1' AND instrument = 'I1'"
TAMPERING = {
    "a byte of a stored event": (f"UPDATE log_records SET value = {_BYTE} {_RECORD}", "{position}"),
    "a hash": (f"UPDATE log_records SET hash = {_HASH} {_RECORD}", "{position}"),
    "a position": (
        f"UPDATE positions SET cost_basis = cost_basis + 0.01 WHERE {_LOT}",
        "positions A1/I1/USD: cost_basis",
    ),
    "a deal": ("UPDATE deals SET price = 1 WHERE account = 'A1' AND deal_id = 'd1'", "deals A1/d1"),
    "a lot that is gone": (
        f"DELETE FROM lots WHERE {_LOT} AND ordinal = 0",
        "lots A1/I1/USD/0: the events make this row",
    ),
    "an instrument": ("UPDATE instruments SET currency = 'EUR' WHERE instrument = 'I2'", "I2"),
    "a balance": (
        "UPDATE balance_days SET amount = amount + 1 WHERE account = 'A2'",
        "balance_days A2/USD",
    ),
}


@pytest.fixture(scope="module")
def tampered(new_daybook: NewDaybook) -> CommandLine:
    """A book that is verified, for one change by hand at a time."""
    made = new_daybook()
    made.imported("deals.csv", deals(40))
    assert "the books equal the log" in made.good("verify").out
    return made


@pytest.mark.parametrize("what", TAMPERING)
def test_verify_names_what_was_changed_by_hand(tampered: CommandLine, what: str) -> None:
    position = tampered.good("log", "--account", "A1").lines[6]["position"]
    statement, named = TAMPERING[what]
    statement = statement.format(offset=position.partition(":")[2])
    table = statement.replace("DELETE FROM", "UPDATE").split()[1]
    url = tampered.environment["DAYBOOK_LOG_URL"]
    with psycopg.connect(url, options="-c search_path=daybook", autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # the log refuses an update
        kept = connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
        assert connection.execute(statement.encode()).rowcount > 0
        try:
            done = tampered("verify")
        finally:
            connection.execute(f"TRUNCATE {table}".encode())
            places = ", ".join(["%s"] * len(kept[0]))
            types = connection.execute(f"SELECT * FROM {table}".encode()).description or []
            rows = [
                tuple(
                    Jsonb(value) if one.type_code == 3802 else value
                    for one, value in zip(types, row, strict=True)
                )
                for row in kept
            ]
            connection.cursor().executemany(f"INSERT INTO {table} VALUES ({places})".encode(), rows)
    assert done.code == 1
    assert named.format(position=position) in done.out
    assert "the books equal the log" not in done.out


# --- what is not there -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        *(("pnl",), ("returns", "--from", "2024-01-01", "--to", "2024-02-01"), ("risk",)),
        ("attribution",),
    ],
    ids=lambda words: words[0],
)
def test_what_is_not_there_yet_says_so(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = CommandLine(tmp_path)(*words)
    assert (done.code, done.err) == (3, f"daybook {words[0]} is not there yet\n")


@pytest.mark.parametrize(
    ("setting", "url", "code", "said"),
    [
        ("DAYBOOK_LOG_URL", "kafka://localhost:9092/x", 3, "is not available"),
        ("DAYBOOK_LOG_URL", "mysql://localhost/x", 2, "expected embedded: or postgresql://"),
        ("DAYBOOK_LOG_URL", "postgresql://u:secret@127.0.0.1:1/x", 3, "check that the server runs"),
        ("DAYBOOK_STORE_URL", "kafka://localhost:9092/x", 2, "DAYBOOK_STORE_URL"),
        ("DAYBOOK_CACHE_URL", "memcached:", 2, "redis://"),
        ("DAYBOOK_HOME", "/proc/no/such", 3, "DAYBOOK_HOME"),
        ("DAYBOOK_HOME", "/dev/null", 2, "a folder"),
    ],
)
def test_a_setting_that_cannot_be_used(
    tmp_path: Path, setting: str, url: str, code: int, said: str
) -> None:
    done = CommandLine(tmp_path, **{setting: url})("status")
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "secret" not in done.err


def test_a_wrong_password_and_a_read_only_database(new_database: Callable[[], str]) -> None:
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        rules = connection.execute("SHOW hba_file").fetchone()
        assert rules is not None
        path = Path(rules[0])
        before = path.read_text()
        path.write_text("local all locked_out scram-sha-256\n" + before)
        connection.execute("CREATE ROLE locked_out LOGIN PASSWORD 'right'")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(
            b"ALTER DATABASE " + url.split("/")[3].split("?")[0].encode()
            + b" SET default_transaction_read_only = on"
        )  # fmt: skip
    folder = path.parent.parent / "locked"
    wrong = url.replace("daybook@", "locked_out:wrong@")
    done = CommandLine(folder, DAYBOOK_LOG_URL=wrong, DAYBOOK_STORE_URL=wrong)("status")
    path.write_text(before)
    assert done.code == 3
    assert "check the user and the password" in done.err
    assert ":wrong" not in done.err
    done = CommandLine(folder, DAYBOOK_LOG_URL=url, DAYBOOK_STORE_URL=url)("status")
    assert done.code == 3
    assert "read-only" in done.err


def test_settings_come_from_the_option_the_environment_and_the_file(
    book: CommandLine, tmp_path: Path
) -> None:
    url = book.environment["DAYBOOK_LOG_URL"]
    bare = CommandLine(tmp_path)
    del bare.environment["DAYBOOK_HOME"]
    bare.write(
        "daybook.toml", f'log_url = "{url}"\nstore_url = "{url}"\nhome = "{tmp_path}/home"\n'
    )
    assert len(bare.rows("deals")) == 40
    empty = tmp_path / "empty"
    bare.environment |= {"DAYBOOK_LOG_URL": "embedded:", "DAYBOOK_STORE_URL": "embedded:"}
    assert bare.rows("deals", "--home", str(empty)) == []
    assert (empty / "postgres").is_dir()
    before = bare.good("--home", str(empty), "deals", "--format", "json")
    assert before.json == []
    assert not (tmp_path / "home").exists()
    bare.write("daybook.toml", "colour = 'red'\n")
    done = bare("status")
    assert (done.code, "colour" in done.err) == (2, True)


# --- how commands end --------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("log",), ("deals", "--format", "csv"), ("deals",)])
def test_a_reader_that_leaves_early_is_no_news(book: CommandLine, words: tuple[str, ...]) -> None:
    with book.start(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.wait(60)
        assert process.stderr.read() == ""


def test_a_full_disk_is_told(book: CommandLine) -> None:
    with Path("/dev/full").open("w") as full, book.start("deals", stdout=full) as process:
        assert process.stderr is not None
        told = process.stderr.read()
        assert (process.wait(60), "No space left" in told) == (1, True)
        assert "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_import_that_is_ended_leaves_whole_events_and_no_server(
    tmp_path: Path, number: signal.Signals
) -> None:
    daybook = CommandLine(tmp_path)
    name = daybook.write("deals.csv", deals(30_000))
    with daybook.start("import", name) as process:
        with embedded_server(daybook.home) as dsn:
            until(lambda: _has_events(dsn))
        process.send_signal(number)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert not _postmaster_runs(tmp_path / "home")
    daybook.good("verify")
    counts = daybook.good("import", name, "--json").json
    assert counts["accepted"] + counts["duplicate"] == counts["read"] == 30_000
    assert min(counts["accepted"], counts["duplicate"]) > 0


def _has_events(dsn: str) -> bool:
    with psycopg.connect(dsn) as connection:
        try:
            rows = connection.execute(
                'SELECT FROM daybook.log_records WHERE topic = 0 AND "offset" > 0 LIMIT 1'
            )
            return rows.fetchone() is not None
        except psycopg.errors.UndefinedTable:
            return False


def _postmaster_runs(home: Path) -> bool:
    told = next((home / "postgres").rglob("postmaster.pid"), None)
    return told is not None and Path(f"/proc/{told.read_text().split()[0]}").exists()


def test_two_commands_at_once_on_one_home(daybook: CommandLine) -> None:
    names = [
        daybook.write("one.csv", deals(3000)),
        daybook.write("other.csv", deals(3000, start=1500)),
    ]
    started = [daybook.start("import", name, "--json") for name in (*names, *names)]
    asking = [daybook.start("positions", "--format", "json") for _ in range(2)]
    told: list[dict[str, Any]] = []
    for process in started:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        told.append(json.loads(out))
    for process in asking:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        json.loads(out)
    assert sum(one["accepted"] for one in told) == 4500
    assert sum(one["duplicate"] for one in told) == 7500
    daybook.good("verify")


def test_another_home_of_the_same_machine_has_its_own_server(tmp_path: Path) -> None:
    first, second = CommandLine(tmp_path / "one"), CommandLine(tmp_path / "two")
    with embedded_server(first.home):
        first.imported("deals.csv", deals(3))
        assert len(first.rows("deals")) == 3
        assert second.rows("deals") == []
    assert not _postmaster_runs(first.home)


def test_help_and_wrong_use() -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DAYBOOK, *words], env=environment, capture_output=True, text=True, check=False
        )

    help_text = run("--help")
    assert help_text.returncode == 0
    for name in ("import", "submit", "positions", "log", "status", "verify", "rebuild", "serve"):
        assert name in help_text.stdout
    wrong = (("nothing",), ("positions", "--colour"), ("import",), ("submit",), ("decider",))
    for words in wrong:
        done = run(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr
