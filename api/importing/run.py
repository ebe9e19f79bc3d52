"""Import files: read, submit in bulk, and count every fact of them.

Safe to run twice and to be killed half-way: a fact's command id is made of its content, so that
whatever was recorded before is a duplicate.
"""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final, get_args

import msgspec
from msgspec import Struct

from api.front import Front, Missing
from api.importing.detect import SourceName, read
from api.importing.evidence import content_of, keep_copy
from api.importing.lines import Fact, Line, Listed, Options, Problem
from api.wiring import Parts
from domain.accounts import ASSUMED
from domain.commands import MovePosition
from domain.errors import InvalidValue
from domain.identifiers import check_id
from domain.money import to_plain
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
_CHANGED: Final = "it changed while it was imported: no copy of it is kept. Import it again"


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
ReportListed = Callable[[str, Listed], None]
"""Takes a file's path, and a line of it that is not booked, by rule."""
Progress = Callable[[int], None]


def import_file(
    parts: Parts,
    path: str,
    told: Told,
    report: Report,
    progress: Progress = lambda _: None,
    report_listed: ReportListed = lambda _path, _line: None,
) -> Counts:
    """Import one file; return what became of its facts.

    `report` is told of each line that was refused or rejected, `report_listed` of each that is
    listed, `progress` of the line that was reached. A dry run takes place in a rehearsal of the
    ledger, which is the caller's. Raises UnreadableFile, before anything is recorded, for what
    cannot be opened.
    """
    content = content_of(path)
    front = Front(parts, strict=told.strict, keeps_notes=not told.dry_run)
    options = Options(
        digest=content.digest,
        account=told.account,
        date=told.date,
        zone=told.zone,
        zone_of=front.zone_of,
        currency_of=front.currency_of,
    )
    counter = Counter(path, front, report, progress, report_listed)
    lines = read(path, told.source, options)
    with _in_bulk():
        counter.run(lines)
    # One that was killed may have recorded facts and not come to this.
    is_evidence = not told.dry_run and (counter.counts.accepted or counter.counts.duplicate)
    if is_evidence and not keep_copy(parts.settings.home / "imported", path, content):
        report(Trouble(path, 0, "file", path, _CHANGED))
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

    def __init__(
        self,
        path: str,
        front: Front,
        report: Report,
        progress: Progress,
        report_listed: ReportListed = lambda _path, _line: None,
    ) -> None:
        self.counts = Counts()
        self._path = path
        self._front = front
        self._report = report
        self._report_listed = report_listed
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
                    self.counts.read += line.counts
                    self.counts.rejected += line.counts
                    self._tell(line.line, line.field, line.value, line.reason)
                case Listed():
                    self._list(line)
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
        if answer.reason == "conflict" and fact.or_listed is not None:
            self._list(Listed(fact.line, fact.or_listed, _told_before(fact, answer)))
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

    def _list(self, line: Listed) -> None:
        self.counts.listed += 1
        self._report_listed(self._path, line)

    def _tell(self, line: int, field: str, value: str, reason: str) -> None:
        self._report(Trouble(self._path, line, field, value, reason))


def _fact_id(fact: Fact) -> tuple[str, str]:
    """Return the field that names a fact, and its id."""
    command = fact.request.command
    names = ("deal_id", "cash_id", "movement_id", "order_id", "fee_id", "action_id")
    told = ((name, getattr(command, name)) for name in names if hasattr(command, name))
    return next(told, ("", fact.request.key))


def _told_before(fact: Fact, answer: Answer) -> str:
    """Return why a fact is listed whose id another has; of cash, how much is not booked so."""
    name, told_id = _fact_id(fact)
    command = fact.request.command
    cash = command.cash if isinstance(command, MovePosition) else ()
    amounts = ", ".join(f"{to_plain(leg.amount)} {leg.currency}" for leg in cash)
    first = f" (seq {answer.numbers['first_seq']})" if "first_seq" in answer.numbers else ""
    reason = f"{name} {told_id!r} was told before{first}, with other content"
    return f"{reason}; not booked: {amounts}" if amounts else reason
