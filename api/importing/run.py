"""Import files: read, submit in bulk, and count every fact of them.

Safe to run twice and to be killed half-way: a fact's command id is made of its content, so that
whatever was recorded before is a duplicate.
"""

import contextlib
import gc
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final, get_args

import msgspec
from msgspec import Struct

from api.front import Front, Missing
from api.importing.detect import SourceName, read
from api.importing.lines import Fact, Line, Listed, Options, Problem, UnreadableFile, open_input
from api.wiring import Parts
from domain.accounts import ASSUMED
from domain.errors import InvalidValue
from domain.identifiers import check_id
from domain.times import parse_day, zone
from streams.answers import Answer

_FIRST_CHUNK: Final = 1024
"""Lines that are submitted at first: reading them is what the ledger waits for."""
_LARGEST_CHUNK: Final = 4096
"""Lines that are submitted at once: at the end of each the last batch is waited for."""
_NEW_OBJECTS: Final = 50_000
"""Objects that come to be between two collections of garbage, in bulk: Python's own is 700."""
_TURN_S: Final = 0.0005
"""How long a thread may go on while another waits to: Python's own is ten times as long."""
_CHUNK: Final = 1 << 20
_LISTED_ALREADY: Final = "opening-cash"


class Trouble(Struct, frozen=True):
    """One line that was not recorded as an event of its own, and why."""

    file: str
    line: int
    field: str
    value: str
    reason: str


class Counts(Struct):
    """Facts of a file by what became of them; `read` is all of them but those listed."""

    read: int = 0
    accepted: int = 0
    duplicate: int = 0
    refused: int = 0
    rejected: int = 0
    listed: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of another file."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Told(Struct, frozen=True):
    """What the user told beside the files."""

    source: SourceName | None = None
    account: str | None = None
    date: str | None = None
    zone: str | None = None
    strict: bool = False
    dry_run: bool = False


def source_from(name: str | None) -> SourceName | None:
    """Return a format by its name, None where it is to be recognised; raises InvalidValue."""
    if name is None:
        return None
    known: tuple[SourceName, ...] = get_args(SourceName)
    for source in known:
        if source == name:
            return source
    raise InvalidValue("--source", name, "one of " + ", ".join(known))


def check_told(told: Told) -> Told:
    """Return what was told beside the files, in canonical form; raises InvalidValue."""
    if told.account is not None:
        check_id(told.account, "--account")
    if told.zone is not None:
        zone(told.zone, "--zone")
    date = None if told.date is None else parse_day(told.date, "--date")
    return msgspec.structs.replace(told, date=date)


Report = Callable[[Trouble], None]
Progress = Callable[[int], None]


def import_file(
    parts: Parts, path: str, told: Told, report: Report, progress: Progress = lambda _: None
) -> Counts:
    """Import one file; return what became of its facts.

    `report` is told of each line that was refused or rejected, `progress` of the line that was
    reached. Raises UnreadableFile, before anything is recorded, for what cannot be opened.
    """
    digest = digest_of(path)
    front = Front(parts, strict=told.strict)
    options = Options(
        digest=digest,
        account=told.account,
        date=told.date,
        zone=told.zone,
        zone_of=front.zone_of,
        currency_of=front.currency_of,
    )
    counter = Counter(path, front, report, progress)
    lines = read(path, told.source, options)
    with _in_bulk():
        if told.dry_run:
            with parts.ledger.rehearsal():
                counter.run(lines)
            return counter.counts
        counter.run(lines)
    # One that was killed may have recorded facts and not come to this.
    if counter.counts.accepted or counter.counts.duplicate:
        keep_file(parts, path, digest)
    return counter.counts


@contextlib.contextmanager
def _in_bulk() -> Iterator[None]:
    """Let a block make many objects at little cost, none in circles, and its threads take turns.

    Where the database has answered, the thread that submits goes on soon: with Python's own
    interval, the one that reads would let it wait for longer than the answer took.
    """
    before, interval_s = gc.get_threshold(), sys.getswitchinterval()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        gc.set_threshold(*before)
        gc.unfreeze()


class Counter:
    """Goes through the lines of one file: one thread reads ahead while another submits."""

    def __init__(self, path: str, front: Front, report: Report, progress: Progress) -> None:
        self.counts = Counts()
        self._path = path
        self._front = front
        self._report = report
        self._progress = progress
        self._failed = False

    def run(self, lines: Iterator[Line]) -> None:
        """Submit all lines in chunks; the next one is read while one is being submitted."""
        with ThreadPoolExecutor(1, thread_name_prefix="submit") as pool:
            before: tuple[list[Line], Future[list[Answer | Missing]]] | None = None
            size = _FIRST_CHUNK
            while chunk := list(islice(lines, size)):
                size = min(2 * size, _LARGEST_CHUNK)
                facts = [line for line in chunk if isinstance(line, Fact)]
                answers = pool.submit(self._submit, facts)
                if before is not None:
                    self._settle(*before)
                before = chunk, answers
            if before is not None:
                self._settle(*before)

    def _submit(self, facts: list[Fact]) -> list[Answer | Missing]:
        """Submit facts, and none any more after some that could not be: their order matters."""
        if self._failed:
            return []
        self._failed = True
        answers = self._front.submit(facts)
        self._failed = False
        return answers

    def _settle(self, chunk: Sequence[Line], answers: Future[list[Answer | Missing]]) -> None:
        found = iter(answers.result())
        accepted = 0
        for line in chunk:
            match line:
                case Fact():
                    answer = next(found)
                    if isinstance(answer, Answer) and answer.status == "accepted":
                        accepted += ASSUMED not in line.request.flags
                    else:
                        self._count(line, answer)
                case Problem():
                    self.counts.read += 1
                    self.counts.rejected += 1
                    self._tell(line.line, line.field, line.value, line.reason)
                case Listed():
                    self.counts.listed += 1
        self.counts.read += accepted
        self.counts.accepted += accepted
        self._progress(chunk[-1].line)

    def _count(self, fact: Fact, answer: Answer | Missing) -> None:
        """Count a fact that was not recorded as an event of its own."""
        counts = self.counts
        if ASSUMED in fact.request.flags:
            return
        if isinstance(answer, Missing):
            counts.read += 1
            counts.rejected += 1
            self._tell(fact.line, answer.field, answer.value, f"{answer.reason} (strict)")
            return
        if answer.reason == "conflict" and _fact_id(fact)[1] == _LISTED_ALREADY:
            counts.listed += 1
            return
        counts.read += 1
        match answer.status:
            case "duplicate":
                counts.duplicate += 1
            case "refused" | "conflict":
                if answer.replayed:
                    counts.duplicate += 1
                    return
                counts.refused += 1
                numbers = ", ".join(f"{name} {value}" for name, value in answer.numbers.items())
                reason = f"{answer.reason or 'refused'}{f' ({numbers})' if numbers else ''}"
                self._tell(fact.line, *_fact_id(fact), reason)
            case "lacking":
                counts.rejected += 1
                self._tell(fact.line, *_fact_id(fact), answer.detail or answer.reason or "")

    def _tell(self, line: int, field: str, value: str, reason: str) -> None:
        self._report(Trouble(self._path, line, field, value, reason))


def _fact_id(fact: Fact) -> tuple[str, str]:
    """Return the field that names a fact, and its id."""
    command = fact.request.command
    names = ("deal_id", "cash_id", "movement_id", "order_id", "fee_id", "action_id")
    told = ((name, getattr(command, name)) for name in names if hasattr(command, name))
    return next(told, ("", fact.request.key))


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file's bytes, unpacked if gzipped, in hex; raises UnreadableFile."""
    digest = hashlib.sha256()
    with open_input(path) as file:
        try:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        except (OSError, EOFError) as error:
            raise UnreadableFile(path, f"it breaks off: {error}") from error
    return digest.hexdigest()


def keep_file(parts: Parts, path: str, digest: str) -> None:
    """Keep a copy of an imported file beside the log, by its digest; it can be erased there."""
    folder = parts.settings.home / "imported"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / digest
    if not kept.exists():
        partial = kept.with_suffix(f".{os.getpid()}.partial")
        shutil.copyfile(Path(path), partial)
        partial.replace(kept)
