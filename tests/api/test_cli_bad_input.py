"""Bad input through the command line: named by file, line, field and value; the rest is kept."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec import Struct

from tests.api import fix_lines
from tests.api.command_line import DAYBOOK, CommandLine
from tests.api.conftest import NewDaybook

HEADER = "account,deal_id,instrument,side,quantity,price,currency,event_time\n"
GOOD = "A,good-{0},AAPL,buy,1,10,USD,2024-01-02T10:00:00Z\n"
ROW = {
    "account": "A",
    "deal_id": "bad",
    "instrument": "AAPL",
    "side": "buy",
    "quantity": "1",
    "price": "10",
    "currency": "USD",
    "event_time": "2024-01-02T10:00:00Z",
}


class Case(Struct, frozen=True):
    """A file, and the problem that is told of it; `kept` counts its good rows."""

    content: bytes
    line: int
    field: str
    value: str
    reason: str
    kept: int = 2
    problems: int = 1
    name: str = "bad.csv"


def with_row(field: str, text: str | bytes, reason: str, value: str | None = None) -> Case:
    """A file with one field of its one bad row changed, between two good rows."""
    raw = text if isinstance(text, bytes) else text.encode()
    cells = [raw if name == field else told.encode() for name, told in ROW.items()]
    content = b"".join(
        [HEADER.encode(), GOOD.format(1).encode(), b",".join(cells), b"\n", GOOD.format(2).encode()]
    )
    return Case(content, 3, field, raw.decode() if value is None else value, reason)


def parquet(rows: int) -> bytes:
    """A Parquet file of good deals."""
    columns: dict[str, list[Any]] = {name: [told] * rows for name, told in ROW.items()}
    columns["deal_id"] = [f"p{number}" for number in range(rows)]
    columns["quantity"] = [Decimal(1)] * rows
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def fix_message(change: Callable[[bytes], bytes]) -> bytes:
    """Three FIX messages of one order, of which the second is changed."""
    lines = [
        fix_lines.order(),
        change(fix_lines.fill(40, "185.50", t17="e1", t14=40, t151=60)),
        fix_lines.fill(60, "185.50", t17="e2", t14=100, t151=0),
    ]
    return b"\n".join(lines) + b"\n"


def bad_checksum(message: bytes) -> bytes:
    return message[:-4] + (b"000" if message[-4:-1] != b"000" else b"001") + message[-1:]


NUMBER = "a plain decimal number"
CASES = {
    "a missing column": Case(
        HEADER.replace(",quantity", "").encode() + b"A,d,AAPL,buy,10,USD,2024-01-02T10:00:00Z\n",
        *(1, "quantity", "", "missing quantity"),
        kept=0,
    ),
    "an unknown column": Case(
        HEADER.replace("price", "prise").encode() + GOOD.format(1).encode(),
        *(1, "price or net", "", "unknown prise"),
        kept=0,
    ),
    "a quote left open": with_row("instrument", '"AAPL', "quote", ""),
    "Latin-1": with_row("instrument", "Müller".encode("latin-1"), "UTF-8", ""),
    "a NUL byte": with_row("instrument", b"AA\0PL", "", ""),
    "NaN": with_row("quantity", "NaN", NUMBER),
    "an infinity": with_row("price", "-Infinity", NUMBER),
    "1e400": with_row("price", "1e400", NUMBER),
    "60 digits": with_row("quantity", "1" * 60, "38 digits"),
    "a negative quantity": with_row("quantity", "-1", ""),
    "a quantity of zero": with_row("quantity", "0", ""),
    "an unknown currency": with_row("currency", "ZZZ", "ISO 4217"),
    "a time without a zone": with_row("event_time", "2024-01-02T10:00:00", "zone"),
    "the year 1": with_row("event_time", "0001-01-01T00:00:00Z", "1678 to 2261", "0001-01-01"),
    "the year 9999": with_row("event_time", "9999-12-31T23:59:59Z", "1678 to 2261", "9999-12-31"),
    "an id of 10,000 characters": with_row("deal_id", "x" * 10_000, "1 to 128", "xxx"),
    "an empty file": Case(b"", 1, "", "", "empty", kept=0),
    "a truncated Parquet": Case(parquet(50)[:-40], 0, "", "", "", kept=0, name="cut.parquet"),
    "a FIX message with a wrong checksum": Case(
        fix_message(bad_checksum), 2, "CheckSum(10)", "00", "expected ", name="drop.fix"
    ),
}
GOOD_WHATEVER = {
    "a negative price": with_row("price", "-37.63", ""),
    "a price of zero": with_row("price", "0", ""),
}


@pytest.fixture(scope="module")
def shared(new_daybook: NewDaybook) -> Iterator[CommandLine]:
    """One ledger that all of the bad files are imported into, and that is in order after them."""
    made = new_daybook()
    yield made
    made.good("verify")


@pytest.mark.parametrize("what", CASES)
def test_bad_input_is_named_and_the_rows_around_it_are_kept(shared: CommandLine, what: str) -> None:
    case = CASES[what]
    content = case.content.replace(b"good-", what.replace(",", "")[:20].encode())
    done = shared("import", shared.write(case.name, content), "--json")
    assert done.code == 1
    told = done.json
    (problem,) = told["problems"]
    assert problem["file"] == case.name
    assert (problem["line"], problem["field"]) == (case.line, case.field) or not case.line
    assert case.value[:60] in problem["value"]
    assert case.reason in problem["reason"]
    assert problem["reason"]
    assert (told["accepted"], told["rejected"], told["duplicate"]) == (case.kept, 1, 0)
    assert told["read"] == case.kept + 1


@pytest.mark.parametrize("what", GOOD_WHATEVER)
def test_what_only_looks_bad_is_taken(shared: CommandLine, what: str) -> None:
    content = GOOD_WHATEVER[what].content.replace(b",bad,", what[:20].encode().join((b",", b",")))
    assert shared.imported("fine.csv", content)["rejected"] == 0


def test_the_same_id_with_other_content_is_refused_and_recorded(daybook: CommandLine) -> None:
    daybook.imported("good.csv", HEADER + GOOD.format(1))
    other = HEADER + GOOD.format(1).replace(",10,", ",11,") + GOOD.format(2)
    done = daybook("import", daybook.write("other.csv", other), "--json")
    told = done.json
    assert (done.code, told["accepted"], told["refused"], told["rejected"]) == (1, 1, 1, 0)
    (problem,) = told["problems"]
    assert (problem["file"], problem["line"], problem["value"]) == ("other.csv", 2, "good-1")
    assert "conflict" in problem["reason"]
    refusals = [
        line["data"]
        for line in daybook.good("log", "--account", "A").lines
        if line["type"] == "CommandRefused"
    ]
    assert [(one["reason"], one["asked"]["price"]) for one in refusals] == [("conflict", "11")]
    assert {row["price"] for row in daybook.rows("deals")} == {"10"}
    again = daybook("import", "other.csv", "--json").json
    assert (again["accepted"], again["duplicate"], again["refused"]) == (0, 2, 0)


@pytest.mark.parametrize("path", ["nothing.csv", "."])
def test_what_is_no_file_is_named_and_the_others_are_imported(
    daybook: CommandLine, path: str
) -> None:
    good = daybook.write("good.csv", HEADER + GOOD.format(1))
    done = daybook("import", path, good)
    assert done.code == 1
    assert done.err.startswith(f"{path}: ")
    assert done.out.startswith("1 read, 1 accepted")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--source", "excel"), "one of csv, parquet, ibkr-flex, lobster, fix"),
        (("--zone", "Mars/Olympus"), "--zone: 'Mars/Olympus'"),
        (("--date", "2024-02-30"), "--date: '2024-02-30'"),
        (("--account", "a\tb"), "--account"),
    ],
)
def test_options_that_make_no_sense(
    shared: CommandLine, options: tuple[str, ...], said: str
) -> None:
    done = shared("import", shared.write("good.csv", HEADER + GOOD.format(1)), *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_strict_rejects_what_would_be_assumed_and_a_dry_run_records_nothing(
    daybook: CommandLine,
) -> None:
    name = daybook.write("good.csv", HEADER + GOOD.format(1) + GOOD.format(2))
    before = daybook.good("log").out
    rehearsed = daybook.good("import", name, "--dry-run", "--json").json
    assert (rehearsed["accepted"], daybook.good("log").out) == (2, before)
    done = daybook("import", name, "--strict", "--json")
    assert (done.code, done.json["rejected"], done.json["accepted"]) == (1, 2, 0)
    assert {one["field"] for one in done.json["problems"]} == {"account"}
    assert daybook.good("log").out == before
    zoned = HEADER + GOOD.format(3).replace("T10:00:00Z", "T10:00:00")
    daybook.imported("zoned.csv", zoned, "--zone", "America/New_York")
    (deal,) = daybook.rows("deals")
    assert deal["event_time"] == "2024-01-02T15:00:00Z"
    assert daybook.rows("accounts")[0]["flags"] == ["assumed"]


LINES = 1_000_000
MOST_MB = 300
_MEASURED = """
import resource, subprocess, sys
with open("told.json", "wb") as told:
    code = subprocess.run(sys.argv[1:], stdout=told).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_million_rejected_lines_fill_no_memory(daybook: CommandLine) -> None:
    row = "A,d,I,buy,NaN,1,USD,2024-01-02T10:00:00Z\n"
    name = daybook.write("million.csv", HEADER + row * LINES)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, DAYBOOK, "import", name, "--json"],
        cwd=daybook.folder,
        env=daybook.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    code, most_kb = map(int, done.stdout.split())
    assert code == 1
    assert most_kb < MOST_MB * 1024
    with (daybook.folder / "told.json").open() as told:
        *_, last = told
    assert last.startswith(f'], "read": {LINES}, "accepted": 0')
    assert f'"rejected": {LINES}' in last
