"""The demo, run twice as a user runs it, and its books beside a naive count of its files."""

import csv
import fcntl
import json
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api.questions import Asker, Question
from api.read_models import READ_MODELS
from api.wiring import running
from infra.settings import load_settings

pytest.importorskip("bokeh_sampledata", reason="the demo's prices are not installed")

ROOT = Path(__file__).resolve().parents[2]
DAYBOOK = f"{shlex.quote(sys.executable)} -m api.cli.main"
SIGNS = {"buy": 1, "sell": -1, "1": 1, "2": -1}
TIMED = re.compile(r"\(\d+\.\d s\)")


class Runs(NamedTuple):
    """The demo's folder, and what two runs printed."""

    home: Path
    first: str
    second: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two runs on one new home, without a terminal."""
    home = tmp_path_factory.mktemp("demo")
    return Runs(home, *(_run(f"{shlex.quote(sys.executable)} -m api.demo {home}") for _ in "12"))


def _run(command: str, cwd: Path = ROOT) -> str:
    """Run a shell command that must succeed; return its standard output."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DAYBOOK_")
    }
    ended = subprocess.run(
        command,
        shell=True,
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, (command, ended.stdout[-2000:], ended.stderr[-2000:])
    return ended.stdout


def _ask(runs: Runs, question: str) -> list[dict[str, Any]]:
    answer = _run(f"{DAYBOOK} {question} --format json --home {runs.home}")
    rows: list[dict[str, Any]] = json.loads(answer)
    return rows


def test_it_imports_once_and_finds_the_same_books_again(runs: Runs) -> None:
    counted = re.compile(r"([\d,]+) facts read: ([\d,]+) are new events, ([\d,]+) were known")
    (first,), (second,) = counted.findall(runs.first), counted.findall(runs.second)
    read = first[0]
    assert int(read.replace(",", "")) > 10_000
    assert first == (read, read, "0")
    assert second == (read, "0", read)
    books = [text[text.index("The book:") :] for text in (runs.first, runs.second)]
    assert TIMED.sub("", books[0]) == TIMED.sub("", books[1])
    assert "the books equal the log" in books[0]
    assert "IS NOT" not in books[0]


def test_it_fits_a_page_of_plain_text(runs: Runs) -> None:
    assert max(map(len, runs.first.splitlines())) <= 100
    assert "\x1b" not in runs.first


def test_the_readme_shows_what_it_prints(runs: Runs) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    begin, end = (f"<!-- demo output: {word} -->" for word in ("begin", "end"))
    shown = readme.partition(begin)[2].partition(end)[0].strip().splitlines()[1:-1]
    printed = _words(runs.first.replace(str(runs.home), ".daybook-demo"))
    pieces = [
        _words(piece) for piece in re.split(r"^\.\.\.$", "\n".join(shown), flags=re.MULTILINE)
    ]
    assert len(pieces) > 3
    at = 0
    for piece in pieces:
        assert piece in printed[at:], piece
        at = printed.index(piece, at) + len(piece)


def _words(text: str) -> str:
    """Return a text without how long anything took, and where its lines are broken."""
    return " ".join(TIMED.sub("", text).split())


def test_nothing_is_left_running(runs: Runs) -> None:
    # The server and all its children hold this lock for as long as any of them lives.
    with (runs.home / "postgres" / "server.lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_it_says_to_try_next_works(runs: Runs, tmp_path: Path) -> None:
    lines = runs.first[runs.first.index("What to try next") :].splitlines()[1:]
    commands = [line.strip() for line in lines if line.strip()]
    export, *others = [command.replace(".venv/bin/daybook", DAYBOOK) for command in commands]
    assert export == f"export DAYBOOK_HOME={runs.home}"
    assert len(others) > 3
    # It serves until it is ended: the dashboard's tests look at what it shows.
    assert others.pop() == f"{DAYBOOK} serve"
    for command in others:
        _run(f"{export}; {command}", tmp_path)
    assert (tmp_path / "deals.parquet").exists()


def test_only_deals_told_twice_are_flagged(runs: Runs) -> None:
    """Totals told by the venue agree with those counted, and nothing had to be assumed."""
    settings = load_settings(runs.home, environ={}, folder=runs.home)
    with running(settings) as parts:
        asker = Asker(parts, Question())
        asked = ("orders", "deals", "positions", "cash", "accounts")
        shown = [READ_MODELS[name].ask(asker) for name in asked]
    flagged = []
    for one in shown:
        names = [name for name, _ in one.columns]
        assert one.rows
        rows = [dict(zip(names, row, strict=True)) for row in one.rows]
        flagged += [(row.get("status"), row["flags"]) for row in rows if row["flags"]]
    # A deal that is told a second time fills its order beyond what was ordered, until it is busted.
    assert flagged
    assert {(status, *flags) for status, flags in flagged} == {("busted", "over_fill")}


def test_the_ledger_has_what_a_naive_count_of_the_files_has(runs: Runs) -> None:
    told = _naive(runs.home / "files")
    positions = {
        (row["account"], row["instrument"]): [
            Fraction(row[name]) for name in ("quantity", "cost_basis", "realised_pnl", "fees")
        ]
        for row in _ask(runs, "positions")
    }
    assert positions == told.positions
    balances = {row["account"]: Fraction(row["balance"]) for row in _ask(runs, "balances")}
    assert balances == told.cash


# --- the naive count: no code of the ledger, fractions throughout --------------------------------


class Counted(NamedTuple):
    """Quantity, cost, realised P&L and fees by account and stock; cash by account."""

    positions: dict[tuple[str, str], list[Fraction]]
    cash: dict[str, Fraction]


class Deal(NamedTuple):
    """What one effective deal says, whichever file told it."""

    time: str
    account: str
    stock: str
    quantity: Fraction
    price: Fraction
    fee: Fraction


def _naive(folder: Path) -> Counted:
    deals = [*_csv_deals(folder / "deals.csv"), *_fix_deals(folder / "orders.fix")]
    splits = _splits(folder / "movements.csv")
    cash: dict[str, Fraction] = defaultdict(Fraction)
    for row in _rows(folder / "cash.csv"):
        cash[row["account"]] += Fraction(row["amount"])
    for deal in deals:
        cash[deal.account] -= deal.quantity * deal.price + deal.fee
    keys = {(deal.account, deal.stock) for deal in deals}
    return Counted(
        {key: _position([*splits, *deals], *key) for key in keys},
        dict(cash),
    )


def _position(facts: list[Any], account: str, stock: str) -> list[Fraction]:
    """Match what was bought first with what was sold first."""
    lots: list[list[Fraction]] = []
    realised = fees = Fraction(0)
    own = [fact for fact in facts if (fact.account, fact.stock) == (account, stock)]
    for fact in sorted(own, key=lambda fact: fact.time):
        if not isinstance(fact, Deal):
            assert sum(quantity for quantity, _ in lots) == fact.before
            ratio = fact.after / fact.before
            lots = [[quantity * ratio, price / ratio] for quantity, price in lots]
            continue
        fees += fact.fee
        left = fact.quantity
        while left < 0:
            taken = min(-left, lots[0][0])
            realised += taken * (fact.price - lots[0][1])
            lots[0][0] -= taken
            left += taken
            lots = [lot for lot in lots if lot[0]]
        if left:
            lots.append([left, fact.price])
    held = sum((quantity for quantity, _ in lots), Fraction(0))
    cost = sum((quantity * price for quantity, price in lots), Fraction(0))
    return [held, cost, realised, fees]


class Split(NamedTuple):
    """Shares before and after."""

    time: str
    account: str
    stock: str
    before: Fraction
    after: Fraction


def _splits(path: Path) -> list[Split]:
    rows = _rows(path)
    return [
        Split(
            _utc(out["event_time"]),
            out["account"],
            out["instrument"],
            -Fraction(out["quantity"]),
            Fraction(into["quantity"]),
        )
        for out, into in zip(rows[::2], rows[1::2], strict=True)
    ]


def _csv_deals(path: Path) -> list[Deal]:
    effective: dict[str, dict[str, str]] = {}
    for row in _rows(path):
        if row["action"] == "new":
            effective[row["deal_id"]] = row
        elif row["action"] == "correct":
            effective[row["ref_deal_id"]] = row
        else:
            del effective[row["ref_deal_id"]]
    return [
        Deal(
            _utc(row["event_time"]),
            row["account"],
            row["instrument"],
            SIGNS[row["side"]] * Fraction(row["quantity"]),
            Fraction(row["price"]),
            Fraction(row["fee"]),
        )
        for row in effective.values()
    ]


def _fix_deals(path: Path) -> list[Deal]:
    effective: dict[str, Deal] = {}
    for line in path.read_text().splitlines():
        told = dict(field.split("=") for field in line.strip("|").split("|"))
        if told.get("150") == "H":
            del effective[told["19"]]
        elif told.get("150") in ("F", "G"):
            named = told.get("19", told["17"])
            before = effective.get(named)
            effective[named] = Deal(
                before.time if before else _fix_time(told["60"]),
                told["1"],
                told["55"],
                SIGNS[told["54"]] * Fraction(told["32"]),
                Fraction(told["31"]),
                Fraction(told["12"]),
            )
    return list(effective.values())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _utc(text: str) -> str:
    """Write a time of the files, `2000-04-03T09:30:00-04:00`, as one that sorts."""
    hour = int(text[11:13]) + int(text[20:22])
    return f"{text[:10]} {hour:02}{text[13:19]}"


def _fix_time(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]} {text[9:17]}"
