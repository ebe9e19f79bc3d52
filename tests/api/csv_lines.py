"""CSV tables for tests, as they are read: facts and problems, line by line."""

from collections.abc import Callable
from pathlib import Path

from api.importing.csv_files import read_csv
from api.importing.lines import Fact, Line, Options, Problem

OPTIONS = Options(digest="ab" * 32)
Read = Callable[..., list[Line]]


def reader(path: Path) -> Read:
    """A function from a table's text, and options, to its lines."""

    def read_text(text: str, options: Options = OPTIONS) -> list[Line]:
        path.write_bytes(text.encode())
        return list(read_csv(str(path), options))

    return read_text


def facts(lines: list[Line]) -> list[Fact]:
    assert [line for line in lines if not isinstance(line, Fact)] == []
    return [line for line in lines if isinstance(line, Fact)]


def one(lines: list[Line]) -> Fact:
    (fact,) = facts(lines)
    return fact


def problem(lines: list[Line]) -> Problem:
    (only,) = lines
    assert isinstance(only, Problem)
    return only
