"""Which format a file is in, told by its first bytes, and the reader of each format."""

import gzip
import re
import zlib
from collections.abc import Iterator
from typing import Final, Literal, assert_never

from api.importing.lines import Line, Options, UnreadableFile, open_input

SourceName = Literal["csv", "parquet", "ibkr-flex", "lobster", "fix"]

_HEAD_BYTES: Final = 1 << 16
_FLEX_TAG: Final = b"<FlexQueryResponse"
_LOBSTER_LINE: Final = re.compile(rb"\d+(?:\.\d+)?,[1-7],\d+,\d+,-?\d+,-?1\r?(?:\n|\Z)")


def detect(path: str) -> SourceName:
    """Return the format of a file, by its content; what is no other is CSV.

    Gzipped files are unpacked. Raises UnreadableFile.
    """
    head = _head(path)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"PAR1"):
        return "parquet"
    if text.startswith(b"8=FIX"):
        return "fix"
    if text.startswith(b"<") and _FLEX_TAG in text:
        return "ibkr-flex"
    if _LOBSTER_LINE.match(text):
        return "lobster"
    return "csv"


def read(path: str, source: SourceName | None, options: Options) -> Iterator[Line]:
    """Yield a file's lines, by the reader of its format, which is recognised when not given.

    Only the reader that is used is loaded. Raises UnreadableFile.
    """
    name = source or detect(path)
    match name:
        case "csv":
            from api.importing.csv_files import read_csv

            return read_csv(path, options)
        case "parquet":
            from api.importing.parquet_files import read_parquet

            return read_parquet(path, options)
        case "ibkr-flex":
            from api.importing.flex import read_flex

            return read_flex(path, options)
        case "lobster":
            from api.importing.lobster import read_lobster

            return read_lobster(path, options)
        case "fix":
            from api.importing.fix import read_fix

            return read_fix(path, options)
        case _:
            assert_never(name)


def _head(path: str) -> bytes:
    with open_input(path) as file:
        try:
            return file.read(_HEAD_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return b""
        except OSError as error:
            raise UnreadableFile(path, str(error)) from error
