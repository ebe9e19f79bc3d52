"""FIX files that are damaged, cut or not FIX: each bad line is named, the lines around are kept."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.importing import fix
from api.importing.fix import LONGEST_LINE, read_fix
from api.importing.lines import Fact, Listed, Options, Problem
from domain import commands
from tests.api.fix_lines import (
    EXECUTION,
    ORDER,
    changed,
    execution,
    fill,
    message,
    only,
    order,
    read,
)


def broken_sum(raw: bytes) -> bytes:
    return raw[:-4] + (b"000" if raw[-4:-1] != b"000" else b"001") + b"\x01"


def bare(raw: bytes) -> bytes:
    """A message without length and checksum, to be changed at will."""
    return raw[raw.index(b"35=") : raw.rindex(b"10=")]


def unchecked(kind: str, pairs: list[tuple[int, object]]) -> bytes:
    return b"8=FIX.4.4\x01" + bare(message(kind, pairs))


def test_a_message_without_length_and_checksum_is_not_checked(tmp_path: Path) -> None:
    (fact,) = read(tmp_path, unchecked("D", list(ORDER)))
    (unended,) = read(tmp_path, unchecked("D", list(ORDER))[:-1])
    (checked,) = read(tmp_path, order())
    assert fact == unended == checked
    assert isinstance(fact, Fact)


LONG = "x" * 10_000
UNTIMED = unchecked("D", changed(ORDER, {"t60": None})).replace(
    b"52=20240102-14:30:00.000\x01", b""
)
BAD: list[tuple[str, bytes, str]] = [
    ("not FIX", b"account,instrument,quantity", "line"),
    ("other version", order().replace(b"FIX.4.4", b"FIX.4.2"), "BeginString(8)"),
    ("wrong checksum", broken_sum(order()), "CheckSum(10)"),
    ("wrong checksum with pipes", broken_sum(order()).replace(b"\x01", b"|"), "CheckSum(10)"),
    ("one character changed", order().replace(b"185.50", b"185.51"), "CheckSum(10)"),
    ("wrong length", order().replace(b"\x019=", b"\x019=1"), "BodyLength(9)"),
    ("cut off", order()[:60], "BodyLength(9)"),
    ("no message type", b"8=FIX.4.4|1=A1|", "MsgType(35)"),
    ("missing ClOrdID", order(t11=None), "ClOrdID(11)"),
    ("missing Side", order(t54=None), "Side(54)"),
    ("missing OrdType", order(t40=None), "OrdType(40)"),
    ("missing OrderQty", order(t38=None, t152=1000), "OrderQty(38)"),
    ("missing Symbol", order(t55=None), "Symbol(55)"),
    ("missing time", UNTIMED, "TransactTime(60)"),
    ("missing ExecType", execution("0", t150=None), "ExecType(150)"),
    ("missing ExecID", fill(1, 1, t17=None), "ExecID(17)"),
    ("missing LastPx", fill(1, 1, t31=None), "LastPx(31)"),
    ("missing ExecRefID", execution("H"), "ExecRefID(19)"),
    ("missing OrigClOrdID", message("F", ORDER), "OrigClOrdID(41)"),
    ("missing CxlRejResponseTo", message("9", [(1, "A"), (11, "a")]), "CxlRejResponseTo(434)"),
    ("repeated tag", message("D", [*ORDER, (38, 5)]), "OrderQty(38)"),
    ("not a number", order(t38="ten"), "OrderQty(38)"),
    ("NaN", order(t38="NaN"), "OrderQty(38)"),
    ("infinity", order(t44="-Infinity"), "Price(44)"),
    ("exponent", order(t38="1e400"), "OrderQty(38)"),
    ("60 digits", order(t38="1" * 60), "OrderQty(38)"),
    ("19 decimals", order(t38="1." + "1" * 19), "OrderQty(38)"),
    ("other digits", message("D", changed(ORDER, {"t38": "٣"}), encoding="utf-8"), "OrderQty(38)"),
    ("fill of nothing", fill(0, 1), "LastQty(32)"),
    ("negative fill", fill(-1, 1), "LastQty(32)"),
    ("bad time", order(t60="2024-01-02T14:30:00Z"), "TransactTime(60)"),
    ("no such day", order(t60="20240231-14:30:00"), "TransactTime(60)"),
    ("year 1", order(t60="00010101-00:00:00"), "TransactTime(60)"),
    ("year 9999", order(t60="99991231-23:59:59"), "TransactTime(60)"),
    ("bad trade date", fill(1, 1, t75="20241301"), "TradeDate(75)"),
    ("unknown side", order(t54="Z"), "Side(54)"),
    ("a side without a direction", order(t54="8"), "Side(54)"),
    ("unknown type", order(t40="~"), "OrdType(40)"),
    ("unknown status", execution("0", t39="?"), "OrdStatus(39)"),
    ("unknown exec type", execution("?"), "ExecType(150)"),
    ("unknown time in force", order(t59="Z"), "TimeInForce(59)"),
    ("unknown currency", fill(1, 1, t15="ZZZ"), "Currency(15)"),
    ("quote currency of a pair", fill(1, 1, t55="EUR/USD", t15="USD"), "Currency(15)"),
    ("NUL bytes", order(t11="a\x001"), "line"),
    ("control character", order(t11="a\x07b"), "ClOrdID(11)"),
    ("Latin-1 control character", order(t1="M\x81ller"), "Account(1)"),
    ("id of 10,000 characters", order(t11=LONG), "ClOrdID(11)"),
    ("account of 10,000 characters", order(t1=LONG), "Account(1)"),
    ("id with its date too long", order(t11="x" * 120), "ClOrdID(11)"),
    ("empty value", unchecked("D", list(ORDER)).replace(b"=AAPL", b"="), "Symbol(55)"),
    ("no tag", unchecked("D", list(ORDER)) + b"AAPL\x01", "line"),
    ("a tag of letters", unchecked("D", list(ORDER)) + b"x=1\x01", "line"),
    ("data shorter than told", unchecked("D", [*ORDER, (354, 99), (355, "x")]), "tag 355"),
]


@pytest.mark.parametrize(("raw", "field"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_line_that_cannot_be_read_is_named_and_the_lines_around_are_kept(
    tmp_path: Path, raw: bytes, field: str
) -> None:
    lines = read(tmp_path, order(t11="ok1"), raw, order(t11="ok2"))
    assert [type(line) for line in lines] == [Fact, Problem, Fact]
    bad = lines[1]
    assert isinstance(bad, Problem)
    assert (bad.line, bad.field) == (2, field)
    assert bad.reason
    assert len(bad.value) < 300


def test_latin_1_and_utf_8_names_are_told_apart(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-8"):
        raw = message("D", changed(ORDER, {"t1": "Müller"}), encoding=encoding)
        (fact,) = read(tmp_path, raw)
        assert isinstance(fact, Fact)
        assert fact.request.key == "Müller"


def test_data_may_hold_what_ends_fields(tmp_path: Path) -> None:
    pairs = [*ORDER, (354, 7), (355, "a\x01b=c\x01d")]
    (fact,) = read(tmp_path, message("D", pairs))
    assert isinstance(fact, Fact)


def test_repeated_fields_of_groups_that_are_not_read_are_fine(tmp_path: Path) -> None:
    parties = [(453, 2), (448, "x"), (447, "D"), (452, 1), (448, "y"), (447, "D"), (452, 3)]
    (fact,) = read(tmp_path, message("D", [*ORDER, *parties]))
    assert isinstance(fact, Fact)


def test_a_line_that_is_too_long_is_one_problem(tmp_path: Path) -> None:
    huge = b"8=FIX.4.4|58=" + b"x" * (10 * LONGEST_LINE)
    lines = read(tmp_path, order(t11="ok1"), huge, order(t11="ok2"))
    assert [type(line) for line in lines] == [Fact, Problem, Fact]
    assert [line.line for line in lines] == [1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"\n\n\r\n", b"\xef\xbb\xbf\n"])
def test_a_file_of_nothing_yields_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "empty.fix"
    file.write_bytes(content)
    assert list(read_fix(str(file), Options(digest="d"))) == []


def test_a_byte_order_mark_is_fine_and_gzip_is_unpacked(tmp_path: Path) -> None:
    file = tmp_path / "told.fix.gz"
    file.write_bytes(gzip.compress(b"\xef\xbb\xbf" + order() + b"\n"))
    (fact,) = read_fix(str(file), Options(digest="d" * 64))
    assert isinstance(fact, Fact)
    file.write_bytes(file.read_bytes()[:-12])
    cut = list(read_fix(str(file), Options(digest="d" * 64)))
    assert isinstance(cut[-1], Problem)


def test_only_so_many_chains_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fix, "_REMEMBERED", 4)
    orders = [order(t11=f"n{number}") for number in range(10)]
    late = execution("0", t11="n0", t60="20240103-09:00:00")
    assert isinstance(only(read(tmp_path, *orders, late)), commands.ReportOrderAccepted)
    command = only(read(tmp_path, *orders, execution("0", t11="n9", t60="20240103-09:00:00")))
    assert isinstance(command, commands.ReportOrderAccepted)
    assert command.order_id == "2024-01-02/n9"


GOOD = [order(t11="g1"), execution("0", t11="g1"), fill(5, "1.5", t11="g1", t17="g2")]


@settings(max_examples=120, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_random_bytes_never_fail_and_good_lines_are_kept(
    tmp_path_factory: pytest.TempPathFactory, junk: list[bytes]
) -> None:
    file = tmp_path_factory.getbasetemp() / "junk.fix"
    file.write_bytes(b"\n".join([GOOD[0], *junk, *GOOD[1:]]) + b"\n")
    lines = list(read_fix(str(file), Options(digest="d" * 64, account="A9")))
    facts = [line for line in lines if isinstance(line, Fact)]
    assert len(facts) >= 3
    assert all(isinstance(line, Fact | Problem | Listed) for line in lines)
    for line in lines:
        if isinstance(line, Problem):
            assert line.field
            assert line.reason


TAGS = st.sampled_from([1, 6, 9, 10, 11, 17, 19, 31, 32, 35, 37, 38, 39, 40, 41, 44, 54, 55, 59,
                        60, 75, 126, 137, 150, 151, 202, 354, 355, 434])  # fmt: skip
VALUES = st.sampled_from(
    [*"018GHFé", "", "-1", "NaN", "e1", "9" * 41, "x" * 200, "20240102", "20240102-14:30:00"]
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_random_changes_of_good_messages_never_fail(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    mutated = []
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from("DFG89"))
        changes = data.draw(st.dictionaries(TAGS, VALUES | st.none(), max_size=4))
        base = [*EXECUTION, (150, "F"), (32, 1), (31, 1), (41, "a0"), (19, "e0"), (40, 1)]
        told = changed(base, {f"t{tag}": value for tag, value in changes.items()})
        raw = bytearray(message(kind, told, encoding="utf-8"))
        if data.draw(st.booleans()):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        mutated.append(bytes(raw))
    file = tmp_path_factory.getbasetemp() / "mutated.fix"
    file.write_bytes(b"\n".join([GOOD[0], *mutated, *GOOD[1:]]) + b"\n")
    lines = list(read_fix(str(file), Options(digest="d" * 64)))
    numbers = {line.line for line in lines if isinstance(line, Fact)}
    last = file.read_bytes().count(b"\n")
    assert {1, last - 1, last} <= numbers
