"""Bad CSV: each kind of it is named, and the good rows around it are kept."""

import gzip
import os
import tracemalloc
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from api.importing import csv_files
from api.importing.csv_files import read_csv
from api.importing.lines import Fact, Line, Listed, Options, Problem, UnreadableFile
from domain import commands

OPTIONS = Options(digest="ab" * 32)
HEADER = "account,deal_id,instrument,quantity,price,currency,event_time,side,trader"
GOOD = {
    "account": "A1",
    "deal_id": "d",
    "instrument": "X",
    "quantity": "10",
    "price": "9.5",
    "currency": "USD",
    "event_time": "2024-01-02T14:30:00Z",
    "side": "buy",
    "trader": "T",
}


def row(deal_id: str, **cells: str) -> str:
    return ",".join({**GOOD, "deal_id": deal_id, **cells}.values())


def read_bytes(folder: Path, content: bytes, options: Options = OPTIONS) -> list[Line]:
    path = folder / "table.csv"
    path.write_bytes(content)
    return list(read_csv(str(path), options))


def between_good_rows(folder: Path, bad: bytes) -> Problem:
    """Read a bad line between two good ones; they must be kept and it be the one problem."""
    first, last = row("first").encode(), row("last").encode()
    lines = read_bytes(folder, b"\n".join((HEADER.encode(), first, bad, last, b"")))
    kept = [line for line in lines if isinstance(line, Fact)]
    assert [fact.request.command.deal_id for fact in kept] == ["first", "last"]  # type: ignore[union-attr]
    (problem,) = [line for line in lines if isinstance(line, Problem)]
    assert problem.line == 3
    assert problem.reason.startswith("expected ")
    return problem


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantity", "0"),
        ("quantity", "-0.00"),
        ("quantity", "-5"),
        ("quantity", "NaN"),
        ("quantity", "sNaN"),
        ("quantity", "1_000"),
        ("quantity", "1 000"),
        ("quantity", "٣"),
        ("quantity", "ten"),
        ("price", "Infinity"),
        ("price", "-inf"),
        ("price", "1e400"),
        ("price", "1e-400"),
        ("price", "1e999999999999"),
        ("price", "1" * 60),
        ("price", "0" * 500_000 + "1"),
        ("price", "0.1234567890123456789"),
        ("price", "$5"),
        ("currency", "XYZ"),
        ("currency", "usd"),
        ("currency", "GBX"),
        ("side", "BUY"),
        ("event_time", "2024-01-02T14:30:00"),
        ("event_time", "2024-01-02 14:30"),
        ("event_time", "0001-01-01T00:00:00Z"),
        ("event_time", "0001-01-01T00:00:00+05:00"),
        ("event_time", "9999-12-31T23:59:59Z"),
        ("event_time", "9999-12-31T23:59:59-05:00"),
        ("event_time", "0001-01-01"),
        ("event_time", "9999-12-31"),
        ("event_time", "2023-02-29T10:00:00Z"),
        ("event_time", "2023-02-29"),
        ("event_time", "02/01/2024"),
        ("event_time", "1704205800"),
        ("event_time", ""),
        ("deal_id", "x" * 10_000),
        ("deal_id", "tab\there"),
        ("deal_id", "nul\0here"),
        ("deal_id", " blank"),
        ("deal_id", "cafe\u0301"),
        ("instrument", ""),
        ("account", ""),
        ("trader", "nul\0here"),
    ],
)
def test_bad_cell_names_its_field_and_value(tmp_path: Path, field: str, value: str) -> None:
    cells = {"deal_id": "bad", field: value}
    problem = between_good_rows(tmp_path, row(**cells).encode())
    assert problem.field == field
    assert len(problem.value) <= 160
    assert problem.value[:8] == value[:8]


@pytest.mark.parametrize("price", ["-37.63", "0", "1E+2", "+5", ".5", "5.", "9" * 38])
def test_prices_that_look_odd_and_are_legal(tmp_path: Path, price: str) -> None:
    (fact,) = read_bytes(tmp_path, f"{HEADER}\n{row('d1', price=price)}\n".encode())
    assert isinstance(fact, Fact)
    assert isinstance(fact.request.command, commands.RecordDeal)
    assert fact.request.command.price == Decimal(price)


def test_fields_are_counted(tmp_path: Path) -> None:
    few = between_good_rows(tmp_path, b"A1,d2,X")
    assert (few.field, "9 fields" in few.reason, "there are 3" in few.reason) == (
        "quantity",
        True,
        True,
    )
    many = between_good_rows(tmp_path, row("d2").encode() + b",more")
    assert "there are 10" in many.reason


def test_latin_1_costs_one_line(tmp_path: Path) -> None:
    problem = between_good_rows(tmp_path, row("d2", trader="Ren\xe9").encode("latin-1"))
    assert (problem.field, problem.value) == ("trader", "Ren\\xe9")
    assert "UTF-8" in problem.reason
    quoted = row("d2", trader='"Ren\xe9,"', side='"buy"').encode("latin-1")
    assert between_good_rows(tmp_path, quoted).field == "trader"


def test_quote_left_open_does_not_swallow_what_follows(tmp_path: Path) -> None:
    problem = between_good_rows(tmp_path, row("d2", instrument='"X').encode())
    assert problem.field == "instrument"
    assert "left open" in problem.reason


@pytest.mark.parametrize("cell", ['"X"y', 'X"y"', 'X"', '"X" ', '""X'])
def test_quotes_that_are_misplaced(tmp_path: Path, cell: str) -> None:
    assert between_good_rows(tmp_path, row("d2", instrument=cell).encode()).field == "instrument"


def test_quotes_left_open_on_many_lines_are_each_named(tmp_path: Path) -> None:
    bad = [row(f"b{number}", instrument='"X') for number in range(500)]
    good = [row(f"g{number}", trader='"T, U"') for number in range(500)]
    mixed = [line for pair in zip(bad, good, strict=True) for line in pair]
    lines = read_bytes(tmp_path, "\n".join([HEADER, *mixed]).encode())
    assert sum(isinstance(line, Fact) for line in lines) == 500
    assert sum(isinstance(line, Problem) for line in lines) == 500


def test_lines_are_counted_through_quoted_breaks(tmp_path: Path) -> None:
    header = "account,kind,amount,currency,event_time,note"
    text = f'{header}\nA1,fee,1,USD,2024-01-02,"a\nb\r\nc"\nA1,fee,x,USD,2024-01-02,\n'
    fact, problem = read_bytes(tmp_path, text.encode())
    assert isinstance(fact, Fact)
    assert (fact.line, fact.note, problem.line) == (2, "a\nb\r\nc", 5)


def test_a_break_inside_an_id_is_refused_and_its_text_never_read_as_rows(tmp_path: Path) -> None:
    broken_up = row("d1", trader='"T\n' + row("made up") + '\n"')
    text = f"{HEADER}\n{broken_up}\n{row('d2')}\n".encode()
    problem, fact = read_bytes(tmp_path, text)
    assert isinstance(problem, Problem)
    assert (problem.line, problem.field) == (2, "trader")
    assert isinstance(fact, Fact)
    assert fact.request.command.deal_id == "d2"  # type: ignore[union-attr]


def test_line_that_is_too_long(tmp_path: Path) -> None:
    problem = between_good_rows(tmp_path, b"x" * (3 * csv_files.MAX_RECORD))
    assert str(csv_files.MAX_RECORD) in problem.reason
    assert between_good_rows(tmp_path, b'"' + b"x" * csv_files.MAX_RECORD).line == 3


def test_quoted_field_that_is_too_long(tmp_path: Path) -> None:
    header = "account,kind,amount,currency,event_time,note\n"
    start = 'A1,fee,1,USD,2024-01-02,"\n'
    lines = read_bytes(tmp_path, (header + start + "word\n" * 300_000 + '"\n').encode())
    assert isinstance(lines[0], Problem)
    assert lines[0].line == 2
    assert not any(isinstance(line, Fact) for line in lines)


@pytest.mark.parametrize(
    ("header", "names", "reason"),
    [
        (HEADER.replace("currency,", ""), "currency", "nearest is deals: missing currency"),
        (HEADER + ",colour", "colour", "nearest is deals: unknown colour"),
        (HEADER.replace(",price", ",prize"), "price or net", "unknown prize"),
        (HEADER + ",trader", "trader", "each column once"),
        (HEADER + ",", "", "unknown (no name)"),
        (HEADER.upper(), "account", "unknown ACCOUNT"),
        ("a;b;c", "portfolio", "nearest is"),
    ],
)
def test_columns_that_fit_no_table(tmp_path: Path, header: str, names: str, reason: str) -> None:
    (problem,) = read_bytes(tmp_path, f"{header}\n{row('d1')}\n".encode())
    assert isinstance(problem, Problem)
    assert (problem.line, problem.field) == (1, names)
    assert reason in problem.reason


@pytest.mark.parametrize("content", [b"", b"\n\n\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_empty_file(tmp_path: Path, content: bytes) -> None:
    (problem,) = read_bytes(tmp_path, content)
    assert isinstance(problem, Problem)
    assert "empty" in problem.reason


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    (problem,) = read_bytes(tmp_path, f"{HEADER}\n{row('d1')}\n".encode(encoding))
    assert isinstance(problem, Problem)
    assert problem.line == 1
    assert "UTF-8" in problem.reason


def test_header_with_a_quote_left_open(tmp_path: Path) -> None:
    (problem,) = read_bytes(tmp_path, b'"account,portfolio\nA1,P\n')
    assert isinstance(problem, Problem)
    assert "header" in problem.reason


def test_gzip_that_is_cut_off_keeps_what_was_read(tmp_path: Path) -> None:
    rows = "\n".join(row(f"d{number}", trader=f"T{number**7}") for number in range(5000))
    whole = gzip.compress(f"{HEADER}\n{rows}\n".encode())
    *facts, problem = read_bytes(tmp_path, whole[: len(whole) // 2])
    assert len(facts) > 500
    assert all(isinstance(fact, Fact) for fact in facts)
    assert isinstance(problem, Problem)
    assert "gzip" in problem.reason


@pytest.mark.parametrize(
    ("name", "reason"), [("", "folder"), ("missing.csv", "no such file"), ("x\0y", "null")]
)
def test_what_is_not_a_file(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        list(read_csv(f"{tmp_path}/{name}", OPTIONS))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.csv"
    path.touch(mode=0o000)
    with pytest.raises(UnreadableFile, match="not permitted"):
        list(read_csv(str(path), OPTIONS))


def test_rejected_lines_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"{HEADER}\n" + "A1,bad\n" * 100_000)
    tracemalloc.start()
    count = sum(isinstance(line, Problem) for line in read_csv(str(path), OPTIONS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 2_000_000


# --- random input ------------------------------------------------------------------------------

CASH = "account,kind,amount,currency,event_time,cash_id,note"
SAMPLES = {
    "deals": [HEADER, *(row(f"d{n}", quantity=str(n + 1)) for n in range(6))],
    "cash": [
        CASH,
        *(f'A1,fee,{n}.50,USD,2024-01-02,c{n},"note, ""{n}"""' for n in range(6)),
    ],
    "movements": [
        "account,movement_id,reason,event_time,quantity,instrument",
        *(f"A1,move{n},opening,2024-01-02,{n + 1},X" for n in range(6)),
    ],
}
quick = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with some of them flipped, removed, doubled, put in or cut off."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        size = draw(st.integers(1, 12))
        part = content[place : place + size]
        noise = draw(st.one_of(st.binary(max_size=6), st.sampled_from([b'"', b",", b"\n", b'""'])))
        content = draw(
            st.sampled_from(
                [
                    content[:place] + noise + content[place + size :],
                    content[:place] + noise + content[place:],
                    content[:place] + part + content[place:],
                    content[:place] + content[place + size :],
                    content[:place],
                ]
            )
        )
    return content


@quick
@given(content=st.binary(max_size=300))
@example(content=b"\x1f\x8b\x08")
@example(content=b"\x1f\x8b" + b"\0" * 40)
def test_random_bytes_are_lines_and_never_an_error(tmp_path: Path, content: bytes) -> None:
    for line in read_bytes(tmp_path, content):
        assert isinstance(line, Fact | Problem | Listed)


@quick
@given(data=st.data(), kind=st.sampled_from(sorted(SAMPLES)))
def test_mutated_files_are_lines_and_never_an_error(
    tmp_path: Path, data: st.DataObject, kind: str
) -> None:
    content = data.draw(mutated("\n".join(SAMPLES[kind]).encode()))
    for line in read_bytes(tmp_path, content):
        assert isinstance(line, Fact | Problem)
        assert line.line >= 1


@quick
@given(data=st.data(), kind=st.sampled_from(sorted(SAMPLES)), number=st.integers(1, 6))
def test_rows_around_a_mutated_line_are_kept(
    tmp_path: Path, data: st.DataObject, kind: str, number: int
) -> None:
    lines = [line.encode() for line in SAMPLES[kind]]
    untouched = dict(_commands(read_bytes(tmp_path, b"\n".join(lines))))
    other = data.draw(mutated(lines[number]))
    others = [f"move{n}".encode() for n in range(6) if n != number - 1]
    assume(b"\n" not in other and not any(name in other for name in others))
    lines[number] = other
    kept = set(dict(_commands(read_bytes(tmp_path, b"\n".join(lines)))).values())
    expected = {command for place, command in untouched.items() if place != number + 1}
    assert expected <= kept


def _commands(read: list[Line]) -> Iterator[tuple[int, str]]:
    for line in read:
        if isinstance(line, Fact):
            yield line.line, line.request.command_id
