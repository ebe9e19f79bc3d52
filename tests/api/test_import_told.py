"""What an import says of each line of its files, rehearsed or not, and what it leaves behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from api.cli.imports import run_import
from api.front import Front
from api.importing.lines import Fact, identified
from api.importing.run import Told, Trouble, import_file
from api.wiring import Parts, running
from domain.commands import Command, DefineInstrument, RecordDeal, Request
from domain.money import parse_decimal
from domain.times import Instant, to_ns
from infra.errors import ServerUnavailable
from infra.settings import load_settings
from streams.answers import Answer
from streams.projecting import Projector
from streams.working.waiting import WorkersProject
from tests.api.test_import_flex_bad_input import FOOT, HEAD

ACCOUNTS = "account,base_currency,method,time_zone\nA1,USD,{},America/New_York\n"
INSTRUMENTS = "instrument,kind,currency\nI1,equity,USD\n"
DEALS = "account,instrument,quantity,price,currency,trade_date\nA1,I1,1,2,USD,2024-01-02\n"
CASH = """account,cash_id,kind,amount,currency,event_time,note,action,ref_cash_id
A1,C1,deposit,10,USD,2024-01-02,for Anna,,
A1,C2,,,,2024-01-03,Anna again,reverse,C1
"""
OPENING = '<CashReport>\n<CashReportCurrency currency="USD" startingCash="{}" />\n</CashReport>\n'
FIX = Path(__file__).parents[1] / "data" / "fix44_sample.fix"
NOON = Instant("2024-01-02T12:00:00.000000000Z")


class Imported(Struct, frozen=True):
    """How an import ended: its exit status, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        return json.loads(self.out)

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.told.items() if isinstance(count, int) if count}


class Book:
    """A ledger in a database of its own, which files are imported into, in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def imported(self, *files: str, as_json: bool = True, **told: Any) -> Imported:
        """Import files of the folder."""
        code = run_import(None, list(files), Told(**told), as_json=as_json)
        said = self._capsys.readouterr()
        return Imported(code, said.out, said.err)

    def write(self, **texts: str) -> list[str]:
        """Write files, by their names without ending; return their names."""
        for name, text in texts.items():
            (self.folder / name).write_text(text)
        return list(texts)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query of the database."""
        with running(load_settings()) as parts:
            parts.vault.read("none")  # its table is there from now on
            parts.projector.catch_up()
            return parts.models.connection.execute(query.encode()).fetchall()


@pytest.fixture
def book(
    new_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Book:
    url = new_database()
    told = {"DAYBOOK_HOME": str(tmp_path), "DAYBOOK_LOG_URL": url, "DAYBOOK_STORE_URL": url}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return Book(tmp_path, capsys)


def test_a_dry_run_answers_as_an_import_of_all_files_would_and_leaves_nothing(book: Book) -> None:
    names = book.write(
        accounts=ACCOUNTS.format("fifo"), instruments=INSTRUMENTS, deals=DEALS, cash=CASH
    )
    rehearsed = book.imported(*names, names[-1], strict=True, dry_run=True)
    assert rehearsed.counts == {"read": 7, "accepted": 5, "duplicate": 2}
    assert book.rows("SELECT note_id FROM vault UNION ALL SELECT account FROM accounts") == []
    assert not (book.folder / "imported").exists()
    assert book.imported(*names, names[-1], strict=True) == rehearsed
    end_of_day_there = to_ns(Instant("2024-01-03T04:59:59.999999999Z"))
    assert book.rows("SELECT event_time_ns FROM deals") == [(end_of_day_there,)]


def test_the_note_of_what_takes_cash_back_can_be_found_and_one_of_nothing_is_not_kept(
    book: Book,
) -> None:
    names = book.write(cash=CASH)
    assert book.imported(*names, strict=True).counts == {"read": 2, "rejected": 2}
    assert book.rows("SELECT note_id FROM vault") == []
    assert book.imported(*names).counts == {"read": 2, "accepted": 2}
    kept = dict(book.rows("SELECT note_id, note FROM vault"))
    assert set(kept.values()) == {"for Anna", "Anna again"}
    with running(load_settings()) as parts:
        log = parts.log
        values = [
            json.loads(record.value)
            for partition in range(log.partitions)
            for record in log.read("events", partition, 0, 100)
        ]
    named = {value["data"].get("note_id") for value in values if "cash_id" in value["data"]}
    assert named == set(kept)


def test_each_line_that_is_listed_is_told_with_its_reason(book: Book) -> None:
    done = book.imported(str(FIX))
    assert [(one["kind"], one["lines"]) for one in done.told["lines_listed"]] == [
        ("Logon", [1]),
        ("Heartbeat", [16]),
    ]
    said = book.imported(str(FIX), as_json=False)
    reason = done.told["lines_listed"][0]["reason"]
    assert said.err.splitlines()[0] == f"{FIX}:1: listed, Logon: {reason}"
    assert said.code == 0


def test_only_the_opening_cash_of_a_later_statement_is_listed(book: Book) -> None:
    names = book.write(
        february=HEAD + OPENING.format("100.00") + FOOT,
        january=HEAD + OPENING.format("1000.00") + FOOT,
    )
    done = book.imported(*names)
    assert done.counts == {"read": 1, "accepted": 1, "listed": 1}
    (one,) = done.told["lines_listed"]
    assert (one["file"], one["kind"], one["lines"]) == ("january", "CashReportCurrency", [5])
    assert one["reason"].endswith("not booked: 1000.00 USD")
    header = "account,movement_id,reason,event_time,quantity,currency\n"
    (name,) = book.write(movements=f"{header}U1,opening-cash,opening,2024-01-01,7,USD\n")
    assert book.imported(name).counts == {"read": 1, "refused": 1}


def test_settings_may_go_back_to_what_they_were(book: Book) -> None:
    first, second, third = book.write(
        first=ACCOUNTS.format("fifo"),
        second=ACCOUNTS.format("average"),
        third=f"{ACCOUNTS.format('fifo')}\n",
    )
    for name in (first, second, third):
        assert book.imported(name).counts == {"read": 1, "accepted": 1}
    for name in (first, second, third):  # each was imported before
        assert book.imported(name).counts == {"read": 1, "duplicate": 1}
    (again,) = book.write(again=f"\n{ACCOUNTS.format('fifo')}")  # says what holds
    assert book.imported(again).counts == {"read": 1, "duplicate": 1}
    assert book.rows("SELECT method FROM accounts") == [("fifo",)]


def test_settings_with_dates_told_again_with_a_line_added_are_known(book: Book) -> None:
    header = "account,base_currency,method,from\n"
    rows = "A1,USD,fifo,2023-01-01\nA1,USD,average,2024-01-01\n"
    (name,) = book.write(accounts=header + rows)
    assert book.imported(name).counts == {"read": 2, "accepted": 2}
    book.write(accounts=f"{header}A2,USD,fifo,\n{rows}")
    again = book.imported(name)
    assert (again.code, again.counts) == (0, {"read": 3, "accepted": 1, "duplicate": 2})


def test_a_file_that_grows_while_it_is_imported_is_told_of_and_not_kept(book: Book) -> None:
    (name,) = book.write(accounts=ACCOUNTS.format("fifo"))
    troubles: list[Trouble] = []

    def grow(_line: int) -> None:
        with (book.folder / name).open("a") as file:
            file.write("A2,USD,fifo,UTC\n")

    with running(load_settings()) as parts:
        counts = import_file(parts, name, Told(), troubles.append, grow)
        assert counts.accepted == 1
        assert [one.file for one in troubles] == [name]
        assert "changed while" in troubles[0].reason
        assert list((book.folder / "imported").iterdir()) == []
        import_file(parts, name, Told(), troubles.append)
    assert len(troubles) == len(list((book.folder / "imported").iterdir())) == 1


def test_standard_output_has_one_object_or_none(
    book: Book, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = book.write(bad="no,table\n", accounts=ACCOUNTS.format("fifo"))
    assert len(book.imported(*names).told["problems"]) == 1
    monkeypatch.setattr(Front, "submit", _lost)
    with pytest.raises(ServerUnavailable):
        book.imported(*names)
    assert capsys.readouterr().out == ""


def _lost(_front: Front, _facts: list[Fact]) -> list[Any]:
    raise ServerUnavailable("the log", "it is lost", "look for it")


def _fact(key: str, command: Command, instrument: tuple[str, DefineInstrument] | None) -> Fact:
    request = identified(Request(command_id="", key=key, event_time=NOON, command=command))
    return Fact(1, request, defines=(instrument,) if instrument else ())


def test_deals_that_no_worker_has_projected_are_amended_when_it_is_told_again(
    book: Book,
) -> None:
    (name,) = book.write(accounts=ACCOUNTS.format("fifo"))
    book.imported(name)
    future = DefineInstrument(kind="future", currency="USD", multiplier=parse_decimal("50", ""))
    assumed = DefineInstrument(kind="equity", currency="USD", multiplier=parse_decimal("1", ""))
    one = parse_decimal("1", "")
    deal = RecordDeal(
        deal_id="D1", instrument="F", side="buy", quantity=one, price=one, currency="USD"
    )
    with running(load_settings()) as parts:
        assert isinstance(parts.projector, Projector)
        workers = WorkersProject(parts.log, parts.models, timeout_s=0)
        _answered_by(parts, workers)
        front = Front(parts)
        # What nothing was assumed of has no deals to amend, and nobody is waited for.
        front.submit([_fact("G", future, None)])
        front.submit([_fact("A1", deal, ("F", assumed))])
        with pytest.raises(ServerUnavailable, match=r"recorded.*worker"):
            front.submit([_fact("F", future, None)])
        Projector(parts.log, parts.models).catch_up()
        (told,) = front.submit([_fact("F", future, None)])
        assert isinstance(told, Answer)
        assert told.status == "duplicate"
    assert book.rows("SELECT multiplier FROM deals") == [(50,)]


def _answered_by(parts: Parts, workers: WorkersProject) -> None:
    parts.projector = workers
