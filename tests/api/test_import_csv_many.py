"""Rows that are read many at a time come to what they come to one by one."""

import gzip
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from api.front import Front, Missing
from api.importing import csv_files
from api.importing.csv_files import read_csv
from api.importing.lines import Fact, Line, Listed, Options, Problem
from api.importing.run import Counter
from domain.commands import CorrectDeal, RecordDeal
from streams.answers import Answer

OPTIONS = Options(digest="ab" * 32)
HEADER = "account,deal_id,instrument,side,quantity,price,currency,fee,event_time,venue"


def rows(count: int) -> list[str]:
    """Return good rows of which some tell less than others."""
    draw = random.Random(7)
    return [
        f"A{draw.randrange(9)},d{n},I{draw.randrange(50)},{draw.choice(('buy', 'sell', ''))},"
        f"{draw.randrange(1, 99)},{draw.randrange(100, 999) / 10},USD,"
        f"{draw.choice(('', '0.50', '1.25'))},2024-01-02T14:{n // 60 % 60:02}:{n % 60:02}Z,"
        f"{draw.choice(('', 'XNAS'))}"
        for n in range(count)
    ]


def read(path: Path, lines: Sequence[str | bytes], end: bytes = b"\n") -> list[Line]:
    content = end.join(line.encode() if isinstance(line, str) else line for line in lines) + end
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return list(read_csv(str(path), OPTIONS))


def deal_ids(lines: Sequence[Line]) -> list[str]:
    commands = [line.request.command for line in lines if isinstance(line, Fact)]
    return [one.deal_id for one in commands if isinstance(one, RecordDeal | CorrectDeal)]


def test_many_rows_are_the_rows_one_by_one(tmp_path: Path) -> None:
    told = rows(700)
    together = read(tmp_path / "all.csv", [HEADER, *told])
    singly = [read(tmp_path / "one.csv", [HEADER, *[""] * n, row]) for n, row in enumerate(told)]
    assert [str(fact) for fact in together] == [str(fact) for (fact,) in singly]


BAD: dict[str, str | bytes] = {
    "a bad cell": "A1,bad,I1,buy,ten,9.5,USD,,2024-01-02T14:30:00Z,",
    "a cell too few": "A1,bad,I1,buy,10,9.5,USD,,2024-01-02T14:30:00Z",
    "no account": ",bad,I1,buy,10,9.5,USD,,2024-01-02T14:30:00Z,",
    "a misplaced quote": 'A1,bad,I"1,buy,10,9.5,USD,,2024-01-02T14:30:00Z,',
    "not UTF-8": b"A1,bad,I\xe91,buy,10,9.5,USD,,2024-01-02T14:30:00Z,",
    "a refused fact": "A1,bad,I1,buy,-10,9.5,USD,,2024-01-02T14:30:00Z,",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", [0, 1, 126, 127, 128, 300, 699])
def test_a_bad_row_costs_itself_alone_wherever_it_stands(
    tmp_path: Path, bad: str | bytes, place: int
) -> None:
    told: list[str | bytes] = [*rows(700)]
    told[place] = bad
    lines = read(tmp_path / "table.csv", [HEADER, *told])
    (problem,) = [line for line in lines if isinstance(line, Problem)]
    assert problem.line == place + 2
    assert lines.index(problem) == place
    assert deal_ids(lines) == [f"d{n}" for n in range(700) if n != place]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
@pytest.mark.parametrize("name", ["plain.csv", "packed.csv.gz"])
def test_lines_are_those_of_the_file(tmp_path: Path, name: str, end: bytes) -> None:
    told = rows(500)
    # A line with quotes every so often, one of them over two lines.
    for n in range(50, 500, 90):
        told[n] = told[n].replace(f"d{n}", f'"d{n}"')
    lines = read(tmp_path / name, [HEADER, *told], end)
    assert deal_ids(lines) == [f"d{n}" for n in range(500)]
    step = end.count(b"\n")
    assert [line.line for line in lines] == [1 + step * (n + 1) for n in range(500)]


def test_a_file_may_end_without_the_end_of_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("\n".join([HEADER, *rows(300)]))
    assert deal_ids(list(read_csv(str(path), OPTIONS))) == [f"d{n}" for n in range(300)]


def test_a_line_longer_than_a_block_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "_BLOCK", 16)
    assert deal_ids(read(tmp_path / "table.csv", [HEADER, *rows(40)])) == [
        f"d{n}" for n in range(40)
    ]


class _Failing(Front):
    """A front that cannot submit, and remembers what it was asked to."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def submit(self, facts: Sequence[Fact]) -> list[Answer | Missing]:
        self.asked.append(len(facts))
        raise ConnectionError("the log is gone")


def test_nothing_is_submitted_after_what_could_not_be(tmp_path: Path) -> None:
    front = _Failing()
    told = read(tmp_path / "table.csv", [HEADER, *rows(5)])
    (fact, *_) = told

    def lines() -> Iterator[Line]:
        for _ in range(10_000):
            yield fact
            yield Listed(1, "row", "listed beside")

    counter = Counter("table.csv", front, lambda _: None, lambda _: None)
    with pytest.raises(ConnectionError):
        counter.run(lines())
    assert len(front.asked) == 1
