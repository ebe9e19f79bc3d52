"""The elements of an IBKR Flex file one by one: no tree is built, nothing outside is fetched.

expat tells the exact line of every tag, whatever the file's length. A document type is refused
before any entity of it could be used, a tag or depth that no statement has before it fills memory.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final
from xml.parsers import expat
from zlib import error as ZlibError  # noqa: N812 - the name of its class

from msgspec import Struct

from api.importing.lines import open_input
from domain.errors import shorten

ROOT: Final = "FlexQueryResponse"
_CHUNK_BYTES: Final = 65_536
_MAX_TAG_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 16


class Opened(Struct, frozen=True):
    """A tag with its attributes, and the line on which it begins (from 1)."""

    line: int
    tag: str
    fields: dict[str, str]


class Closed(Struct, frozen=True):
    """The end of an element."""

    tag: str


class Broken(Struct, frozen=True):
    """Where and why nothing more can be read."""

    line: int
    field: str
    value: str
    reason: str


class _Stop(Exception):  # noqa: N818 - not an error of ours: the file's end
    def __init__(self, broken: Broken) -> None:
        super().__init__(broken.reason)
        self.broken = broken


class _Handlers:
    """What expat calls back: collects elements until they are handed on."""

    def __init__(self) -> None:
        self.ready: list[Opened | Closed] = []
        self._depth = 0
        self._fed_bytes = 0
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, chunk: bytes) -> bool:
        """Parse a piece of the file, an empty one at its end; tell if there is more to come.

        Raises _Stop.
        """
        self._fed_bytes += len(chunk)
        try:
            self.parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            line = error.lineno
            raise _Stop(Broken(line, "xml", expat.ErrorString(error.code), "whole XML")) from None
        except (LookupError, ValueError) as error:
            raise _Stop(self.broken("encoding", str(error), "UTF-8 or another known one")) from None
        if self._fed_bytes - max(self.parser.CurrentByteIndex, 0) > _MAX_TAG_BYTES:
            raise _Stop(self.broken("xml", "a tag without end", "tags of less than 1 MiB"))
        return bool(chunk)

    def broken(self, field: str, value: str, reason: str) -> Broken:
        """Return why nothing more can be read, where the parser stands."""
        return Broken(self.parser.CurrentLineNumber, field, shorten(value), reason)

    def _start(self, tag: str, fields: dict[str, str]) -> None:
        if not self._depth and tag != ROOT:
            raise _Stop(self.broken("root element", tag, f"{ROOT}: an IBKR Flex statement"))
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _Stop(self.broken("xml", tag, f"elements at most {_MAX_DEPTH} deep"))
        self.ready.append(Opened(self.parser.CurrentLineNumber, tag, fields))

    def _end(self, tag: str) -> None:
        self._depth -= 1
        self.ready.append(Closed(tag))

    def _doctype(self, name: str, *_ids: object) -> None:
        raise _Stop(self.broken("DOCTYPE", name, "no document type: a Flex statement has none"))


def elements(path: str) -> Iterator[Opened | Closed | Broken]:
    """Yield the elements of a file, plain or gzipped, in order.

    What cannot be read ends it with one Broken; the elements before the break are all yielded.
    Raises UnreadableFile when the file cannot be opened.
    """
    handlers = _Handlers()
    with open_input(path) as file:
        while True:
            broken = None
            try:
                more = handlers.feed(_read(file, handlers))
            except _Stop as stop:
                broken, more = stop.broken, False
            yield from handlers.ready
            handlers.ready.clear()
            if broken is not None:
                yield broken
            if not more:
                return


def _read(file: BinaryIO, handlers: _Handlers) -> bytes:
    try:
        return file.read(_CHUNK_BYTES)
    except (OSError, EOFError, ZlibError) as error:
        raise _Stop(handlers.broken("file", str(error), "a file that can be read")) from None
