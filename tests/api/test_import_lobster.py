"""LOBSTER message files: the real one to the last line, and bad ones."""

import gzip
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.importing.lines import Fact, Line, Listed, Options, Problem, UnreadableFile
from api.importing.lobster import read_lobster
from domain.commands import PlaceOrder, RecordDeal, ReportOrderCanceled

OPTIONS = Options(digest="d" * 64, date="2012-06-21")
MESSAGES = "AAPL_2012-06-21_0930-1030_messages.csv.gz"


def read(folder: Path, text: str | bytes, options: Options = OPTIONS) -> list[Line]:
    path = folder / "messages.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_lobster(str(path), options))


def told_type(command: object) -> str:
    match command:
        case PlaceOrder():
            return "new"
        case ReportOrderCanceled():
            return "delete" if command.quantity is None else "partial cancel"
        case RecordDeal():
            return "hidden execution" if command.tags == ("hidden",) else "visible execution"
    raise AssertionError(command)


def test_the_totals_by_type_are_the_files(shared_data: Path) -> None:
    told: Counter[str] = Counter()
    ids = set()
    shares: Counter[tuple[str, str]] = Counter()
    for line in read_lobster(str(shared_data / "lobster" / MESSAGES), OPTIONS):
        assert isinstance(line, Fact)
        told[told_type(line.request.command)] += 1
        ids.add(line.request.command_id)
        if isinstance(line.request.command, RecordDeal):
            shares["dealt", line.request.command.side] += int(line.request.command.quantity)
    assert told == {
        "new": 44_256,
        "partial cancel": 469,
        "delete": 41_004,
        "visible execution": 4_067,
        "hidden execution": 2_201,
    }
    assert len(ids) == 91_997
    assert shares == _dealt_shares(shared_data)


def _dealt_shares(shared_data: Path) -> Counter[tuple[str, str]]:
    """The shares dealt by side, counted from the text alone."""
    shares: Counter[tuple[str, str]] = Counter()
    with gzip.open(shared_data / "lobster" / MESSAGES, "rt") as file:
        for row in file:
            _, kind, _, size, _, side = row.strip().split(",")
            if kind in "45":
                shares["dealt", "buy" if side == "1" else "sell"] += int(size)
    return shares


def test_real_lines_are_what_they_say(shared_data: Path) -> None:
    lines = read_lobster(str(shared_data / "lobster" / MESSAGES), OPTIONS)
    first = next(lines)
    assert isinstance(first, Fact)
    assert first.request.event_time == "2012-06-21T13:30:00.004241176Z"
    assert first.request.key == "LOBSTER"
    assert first.request.flags == ()
    assert first.request.command == PlaceOrder(
        order_id="2012-06-21/16113575",
        instrument="AAPL",
        side="buy",
        quantity=Decimal(18),
        order_type="limit",
        limit_price=Decimal("585.3300"),
    )
    rounded = next(each for each in lines if isinstance(each, Fact) and each.request.flags)
    assert rounded.request.flags == ("time_rounded",)
    assert rounded.request.event_time == "2012-06-21T13:57:01.088778456Z"


def test_an_execution_is_a_deal_of_the_resting_order(tmp_path: Path) -> None:
    (fact,) = read(tmp_path, "34200.5,4,7,10,5853300,-1\n")
    assert isinstance(fact, Fact)
    deal = fact.request.command
    assert isinstance(deal, RecordDeal)
    assert (deal.order_id, deal.side, deal.price) == ("2012-06-21/7", "sell", Decimal("585.33"))
    assert (deal.trade_date, deal.tags) == ("2012-06-21", ())


def test_a_hidden_execution_has_no_order(tmp_path: Path) -> None:
    (fact,) = read(tmp_path, "34200.5,5,0,10,5853300,1\n")
    assert isinstance(fact, Fact)
    deal = fact.request.command
    assert isinstance(deal, RecordDeal)
    assert (deal.order_id, deal.tags) == (None, ("hidden",))


def test_equal_lines_are_different_deals(tmp_path: Path) -> None:
    line = "34200.5,5,0,10,5853300,1\n"
    facts = read(tmp_path, line * 3)
    deals = [each.request.command for each in facts if isinstance(each, Fact)]
    assert len({each.request.command_id for each in facts if isinstance(each, Fact)}) == 3
    assert [each.sequence for each in deals if isinstance(each, RecordDeal)] == [0, 1, 2]
    assert len({each.deal_id for each in deals if isinstance(each, RecordDeal)}) == 3


def test_crosses_and_halts_are_listed(tmp_path: Path) -> None:
    lines = read(tmp_path, "34200,6,-1,10,5853300,-1\n34200,7,0,0,-1,-1\n")
    assert [type(each) for each in lines] == [Listed, Listed]


def test_the_day_and_symbol_may_stand_in_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "MSFT_2013-01-02_34200000_57600000_message_5.csv"
    path.write_text("34200.5,1,7,10,100,1\n")
    (fact,) = read_lobster(str(path), Options(digest="d" * 64, account="MM1"))
    assert isinstance(fact, Fact)
    assert fact.request.event_time == "2013-01-02T14:30:00.500000000Z"
    assert (fact.request.key, fact.request.flags) == ("MM1", ("date_from_file_name",))
    assert fact.defines[0][0] == "MSFT"
    (told,) = read_lobster(str(path), OPTIONS)
    assert isinstance(told, Fact)
    assert told.request.event_time == "2012-06-21T13:30:00.500000000Z"
    assert told.request.flags == ()


def test_without_a_day_nothing_is_guessed(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, "34200.5,1,7,10,100,1\n", Options(digest="d" * 64))
    assert isinstance(problem, Problem)
    assert (problem.line, problem.field) == (1, "date")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("34200.5,1,7,10,100", "line"),
        ("34200.5,1,7,10,100,1,1", "line"),
        ("x,1,7,10,100,1", "time"),
        ("86400,1,7,10,100,1", "time"),
        ("-1,1,7,10,100,1", "time"),
        ("3.4e4,1,7,10,100,1", "time"),
        ("34200.5,8,7,10,100,1", "type"),
        ("34200.5,1,x,10,100,1", "order id"),
        ("34200.5,1,0,10,100,1", "order id"),
        ("34200.5,3,0,10,100,1", "order id"),
        ("34200.5,1,7,0,100,1", "size"),
        ("34200.5,1,7,-1,100,1", "size"),
        ("34200.5,1,7,1.5,100,1", "size"),
        ("34200.5,1,7,10,NaN,1", "price"),
        ("34200.5,1,7,10,1_0,1", "price"),
        ("34200.5,1,7,10,100,0", "side"),
        ("34200.5,1,7,10,100,1" + " " * 10_000, "line"),
        ("34100,1,7,10,100,1", "time"),
        ("\x00", "line"),
        ("3420\xe90.5,1,7,10,100,1", "time"),
    ],
)
def test_a_bad_line_is_a_problem_and_reading_goes_on(tmp_path: Path, row: str, field: str) -> None:
    good = "34200.{},1,{},10,100,1\n"
    text = f"{good.format(1, 1)}{row}\n\n{good.format(9, 2)}"
    first, problem, last = read(tmp_path, text.encode("latin-1"))
    assert isinstance(first, Fact)
    assert isinstance(problem, Problem)
    assert isinstance(last, Fact)
    assert (problem.line, problem.field) == (2, field)
    assert len(problem.value) < 200


def test_a_cut_archive_keeps_what_came_whole(tmp_path: Path) -> None:
    rows = "".join(f"34200.{n:04d},1,{n + 1},10,100,1\n" for n in range(2000))
    lines = read(tmp_path, gzip.compress(rows.encode())[:-200])
    assert isinstance(lines[0], Fact)
    assert isinstance(lines[-1], Problem)
    assert lines[-1].field == "file"


def test_what_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(UnreadableFile):
            list(read_lobster(str(path), OPTIONS))


GOOD = b"34200.1,1,7,10,100,1\n34200.2,4,7,5,100,1\n34200.2,2,7,1,100,1\n34201,3,7,4,100,1\n"


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 20), st.binary(max_size=20)),
        max_size=5,
    )
)
def test_no_mutation_raises_and_no_line_is_lost(
    tmp_path: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    text = GOOD
    for start, length, inserted in edits:
        text = text[:start] + inserted + text[start + length :]
    lines = read(tmp_path, text)
    if not text.startswith(b"\x1f\x8b"):
        assert len(lines) == sum(bool(row.strip()) for row in text.split(b"\n"))
