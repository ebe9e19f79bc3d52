"""Comma-separated files, plain or gzipped: a header line, UTF-8, quoting as in RFC 4180.

A record that breaks the rules of quoting costs its own line only: reading goes on at the line
after the one where it started, so that a quote left open does not swallow what follows.
"""

import contextlib
import gzip
import re
import zlib
from collections import deque
from collections.abc import Iterator
from io import BufferedReader
from itertools import islice
from typing import Final

from api.importing.lines import Line, Options, Problem, UnreadableFile, open_input
from api.importing.table_reading import read_table
from api.importing.table_rows import Broken, Record

MAX_RECORD: Final = 1 << 20
"""Bytes that one record may have."""

_BLOCK: Final = 8192
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CELL: Final = re.compile(r'(?:"([^"]*+(?:""[^"]*+)*+)"|([^",]*+))(,|\Z)')
_SURROGATE: Final = re.compile("[\udc80-\udcff]")
_TOO_LONG: Final = f"expected a line of at most {MAX_RECORD} bytes"
_LEFT_OPEN: Final = "expected a closing quote: the one opened on this line is left open"
_MISPLACED: Final = (
    "expected quotes as in RFC 4180: around a whole field, and doubled inside of one"
)
_NOT_UTF8: Final = "expected UTF-8; a byte of it is not (Latin-1?)"
_CUT_OFF: Final = "expected a whole gzip file: its data is damaged, or ends too soon"
_EMPTY: Final = "expected a header line that names the columns; the file is empty"


def read_csv(path: str, options: Options) -> Iterator[Line]:
    """Yield the facts and problems of a CSV file, each with the line on which its record starts.

    Lines are those of the file, from 1, line breaks inside of quotes counted; blank lines are
    passed over. Raises UnreadableFile.
    """
    with open_input(path) as file:
        lines = _Lines(file)
        try:
            yield from _read(path, _records(lines), options)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            yield Problem(lines.number + 1, "", "", _CUT_OFF)
        except OSError as error:
            raise UnreadableFile(path, str(error)) from error


def _read(path: str, records: Iterator[Record], options: Options) -> Iterator[Line]:
    header = next(records, None)
    if header is None:
        yield Problem(1, "", "", _EMPTY)
    elif isinstance(header, Broken):
        yield Problem(header.line, "", header.value, f"{header.reason}; this is the header line")
    else:
        line, names = header
        yield from read_table(names, records, lambda: _read_ahead(path), options, line)


def _read_ahead(path: str) -> Iterator[Record]:
    """Yield the records of a file after its header, as far as it is whole; raises OSError."""
    with (
        open_input(path) as file,
        contextlib.suppress(EOFError, zlib.error, gzip.BadGzipFile),
    ):
        yield from islice(_records(_Lines(file)), 1, None)


class _Lines:
    """The physical lines of a file, which can be given back to be read again."""

    def __init__(self, file: BufferedReader) -> None:
        self.number = 0
        self._file = file
        self._begun = b""
        self._again: deque[bytes] = deque()

    def read(self) -> bytes:
        """Return the next line, no more of it than MAX_RECORD bytes; empty at the end."""
        if self._again:
            raw = self._again.popleft()
        else:
            raw = self._begun + self._file.readline(MAX_RECORD - len(self._begun))
            self._begun = b""
        if raw:
            self.number += 1
        return raw

    def read_plain(self) -> list[str]:
        """Return some lines without their ends; none where the next is to be read by itself.

        They are as many as one read of the file gives, when all are UTF-8 and none has quotes.
        """
        if self._again:
            return []
        block = self._begun + self._file.read1(_BLOCK)
        end = block.rfind(b"\n")
        self._begun = block[end + 1 :]
        if end < 0:
            return []
        try:
            texts = block[:end].decode().split("\n") if b'"' not in block else []
        except UnicodeDecodeError:
            texts = []
        if not texts:
            self._again.extend(line + b"\n" for line in block[:end].split(b"\n"))
        self.number += len(texts)
        return [text.rstrip("\r") for text in texts] if b"\r" in block else texts

    def give_back(self, lines: list[bytes]) -> None:
        """Have the last lines read again."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)

    def skip_rest(self) -> None:
        """Pass over what is left of a line that was too long to be read whole."""
        while (more := self._file.readline(MAX_RECORD)) and not more.endswith(b"\n"):
            pass


def _records(lines: _Lines) -> Iterator[Record]:
    first = lines.read()
    if first:
        lines.give_back([first.removeprefix(_BYTE_ORDER_MARK) or b"\n"])
    while True:
        while texts := lines.read_plain():
            for line, text in enumerate(texts, lines.number - len(texts) + 1):
                if text:
                    yield line, text.split(",")
        raw = lines.read()
        if not raw:
            return
        if len(raw) == MAX_RECORD and not raw.endswith(b"\n"):
            line, text = lines.number, raw[:200].decode(errors="backslashreplace")
            lines.skip_rest()
            yield Broken(line, None, text, _TOO_LONG, "")
        elif b'"' in raw:
            yield _quoted(lines, raw)
        else:
            try:
                text = raw.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                yield _not_utf8(lines.number, raw)
                continue
            if text:
                yield lines.number, text.split(",")


def _quoted(lines: _Lines, raw: bytes) -> Record:
    """Return the record that starts with a line that has quotes in it.

    A later line that has an odd number of quotes ends the record or breaks it, so that however
    many lines are given back, each is read a few times at most.
    """
    line, parts, size, quotes = lines.number, [raw], len(raw), raw.count(b'"')
    while quotes % 2:
        more = lines.read()
        if more:
            parts.append(more)
        size += len(more)
        if not more or size > MAX_RECORD:
            lines.give_back(parts[1:])
            return _misquoted(line, raw)
        quotes += more.count(b'"')
    joined = b"".join(parts)
    text = joined.decode(errors="surrogateescape").rstrip("\r\n")
    cells, end = _split(text)
    if end < len(text):
        lines.give_back(parts[1:])
        return _misquoted(line, raw)
    if text.isascii() or not any(map(_SURROGATE.search, cells)):
        return line, cells
    return _not_utf8(line, joined)


def _split(text: str) -> tuple[list[str], int]:
    """Return the cells of a record and where they end: before a misplaced quote where one is."""
    cells: list[str] = []
    place = 0
    while match := _CELL.match(text, place):
        quoted, plain, comma = match.groups()
        cells.append(plain if quoted is None else quoted.replace('""', '"'))
        place = match.end()
        if not comma:
            break
    return cells, place


def _misquoted(line: int, raw: bytes) -> Broken:
    text = raw.decode(errors="backslashreplace").rstrip("\r\n")
    cells, place = _split(text)
    rest = text[place:]
    left_open = rest.startswith('"') and rest.count('"') % 2
    return Broken(line, len(cells), rest, _LEFT_OPEN if left_open else _MISPLACED, text)


def _not_utf8(line: int, raw: bytes) -> Broken:
    text = raw.decode(errors="surrogateescape").rstrip("\r\n")
    cells, _ = _split(text)
    column = next((n for n, cell in enumerate(cells) if _SURROGATE.search(cell)), None)
    value = cells[column] if column is not None else text
    readable = value.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return Broken(line, column, readable, _NOT_UTF8, raw.decode(errors="backslashreplace"))
