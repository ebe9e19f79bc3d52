"""What a reader of a file yields, line by line, whatever the format."""

import gzip
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, Protocol

from msgspec import Struct
from msgspec.structs import replace

from domain.commands import DefineInstrument, DefinePortfolio, OpenAccount, Request
from schemas.canonical import naming_hash

ACTOR: Final = "import"
"""Who asks for what a file tells."""

_MAY_GO_BACK: Final = frozenset((OpenAccount, DefineInstrument, DefinePortfolio))
_GZIP_MAGIC: Final = b"\x1f\x8b"


class Fact(Struct, frozen=True, gc=False):
    """A fact of the file as a request.

    `opens` and `defines` are what the row says of its account and instruments; they are used,
    flagged `assumed`, only when the ledger does not know them. `note` is free text: it belongs in
    the vault, and never into the event. `or_listed` is the kind under which the line is listed, and
    not refused, where another fact of its id was told before.
    """

    line: int
    request: Request
    opens: OpenAccount | None = None
    defines: tuple[tuple[str, DefineInstrument], ...] = ()
    note: str | None = None
    or_listed: str | None = None


class Problem(Struct, frozen=True):
    """A fact that could not be read: where, which field, what it held, what was expected.

    A fact of several lines may have several problems, of which one `counts`.
    """

    line: int
    field: str
    value: str
    reason: str
    counts: bool = True


class Listed(Struct, frozen=True):
    """A line that is named but not booked, by rule."""

    line: int
    kind: str
    reason: str


Line = Fact | Problem | Listed
ZoneOf = Callable[[Literal["account", "instrument"], str], str | None]


def _unknown_zone(_kind: Literal["account", "instrument"], _name: str) -> str | None:
    return None


def _unknown_currency(_instrument: str) -> str | None:
    return None


class Options(Struct, frozen=True):
    """What the user told beside the file, and what the ledger knows. `digest`: its SHA-256, hex.

    `zone` is for times without one. `zone_of` answers the time zone that is set for an account or
    an instrument, `currency_of` the currency an instrument is defined in; None where unknown.
    """

    digest: str
    account: str | None = None
    date: str | None = None
    zone: str | None = None
    zone_of: ZoneOf = _unknown_zone
    currency_of: Callable[[str], str | None] = _unknown_currency


class UnreadableFile(Exception):  # noqa: N818 - named by what it is, like InvalidValue
    """Say that a file could not be opened or read at all: missing, a folder, not permitted."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class Ordinals:
    """Give rows without an id one made of their content and their ordinal among equal rows.

    Keeps some 150 bytes for each different row that has no id.
    """

    def __init__(self) -> None:
        self._seen: Counter[bytes] = Counter()

    def content_id(self, *parts: str) -> str:
        """Return an id that is the same whenever the same rows are read again."""
        digest = hashlib.sha256("\x1f".join(parts).encode()).digest()[:16]
        self._seen[digest] += 1
        return f"{digest.hex()}-{self._seen[digest]}"


def identified(request: Request) -> Request:
    """Return the request under a command id made of its content.

    The same fact told again, by this file or another, is so the same request; an id of the
    source's that comes with other content is another request, for the ledger to decide.

    Settings and definitions may go back to what they were, so there the id is made of the place in
    the file, too: told by another file, the ledger decides whether they are what holds already.
    """
    content = naming_hash(request)
    source = request.source
    if type(request.command) in _MAY_GO_BACK and source is not None:
        placed = f"{content}/{source.digest}/{source.line}"
        content = hashlib.sha256(placed.encode()).hexdigest()
    return replace(request, command_id=f"import:{content[:32]}", actor=ACTOR)


def open_input(path: str) -> io.BufferedReader:
    """Open a file for reading, unpacked when it is gzipped; raises UnreadableFile."""
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - the caller closes it
    except (OSError, ValueError) as error:
        raise UnreadableFile(path, _explained(path, error)) from error
    try:
        zipped = file.peek(2).startswith(_GZIP_MAGIC)
    except OSError as error:
        file.close()
        raise UnreadableFile(path, _explained(path, error)) from error
    if not zipped:
        return file
    file.close()
    return io.BufferedReader(gzip.open(path))


def _explained(path: str, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a folder; expected a file"
        case PermissionError():
            return "reading it is not permitted"
        case OSError(strerror=str(told)):
            return told
        case _:
            return f"{str(error) or 'it cannot be opened'} ({path!r})"


class Source(Protocol):
    """Read a file as lines. Memory stays bounded whatever the file's size."""

    def __call__(self, path: str, options: Options) -> Iterator[Line]:
        """Yield what the file holds, in its order."""
        ...
