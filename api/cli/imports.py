"""The commands that write: import files, submit commands."""

import contextlib
import os
import shutil
import sys
import tempfile
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec import Struct

from api.cli.progress import progress_bar
from api.commands_json import answer_json, command_id_in, fact_from_json
from api.front import Front, Missing, finish_transfers
from api.importing.lines import Fact, Listed, UnreadableFile
from api.importing.run import Counts, Told, Trouble, import_file
from api.wiring import Parts, running
from domain.errors import InvalidValue
from infra.settings import Settings, load_settings
from streams.answers import Answer

_encode = msgspec.json.Encoder().encode
_READ_BYTES: Final = 1 << 20
_IN_MEMORY: Final = 1 << 20


def run_import(home: Path | None, files: list[str], told: Told, *, as_json: bool) -> int:
    """Import files one after another; return the exit status: 1 when any line was not recorded.

    A dry run rehearses all of them together, so that each is answered after those before it.
    """
    total = Counts()
    with contextlib.ExitStack() as stack:
        troubles = stack.enter_context(_Troubles(as_json=as_json))
        parts = stack.enter_context(running(_heard(load_settings(home))))
        if told.dry_run:
            stack.enter_context(parts.ledger.rehearsal())
        else:
            finish_transfers(parts)
        for path in files:
            total.add(_imported(parts, path, told, troubles))
        troubles.close(total)
    return 1 if troubles.count else 0


def _imported(parts: Parts, path: str, told: Told, troubles: "_Troubles") -> Counts:
    try:
        with progress_bar(path) as progress:
            return import_file(parts, path, told, troubles.tell, progress, troubles.list_line)
    except UnreadableFile as error:
        troubles.tell(Trouble(path, 0, "file", path, error.reason))
        return Counts()


def _heard(settings: Settings) -> Settings:
    """Return the settings, with the log on standard error where all its details are wanted."""
    if settings.log_level == "debug":
        # Loaded for this alone: it takes longer than the rest of the command line.
        from infra.telemetry import start_logging

        start_logging(level=settings.log_level)
    return settings


class _Troubles:
    """Tells each line that was not recorded as it is found: a million of them fill no memory.

    As JSON they wait in a file for the end, so that standard output has one whole object or none.
    Lines that are listed are told at the end, those of one kind and reason together.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.count = 0
        self._as_json = as_json
        self._waiting = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed on exit
            _IN_MEMORY, "w+", encoding="utf-8"
        )
        self._listed: dict[tuple[str, str, str], array[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._waiting.close()

    def tell(self, trouble: Trouble) -> None:
        self.count += 1
        if self._as_json:
            separator = ",\n  " if self.count > 1 else "\n  "
            self._waiting.write(separator + _encode(trouble).decode())
            return
        place = f"{trouble.file}:{trouble.line}" if trouble.line else trouble.file
        what = f"{trouble.field} {trouble.value!r}: " if trouble.field else f"{trouble.value}: "
        sys.stderr.write(f"{place}: {what}{trouble.reason}\n")

    def list_line(self, path: str, line: Listed) -> None:
        self._listed.setdefault((path, line.kind, line.reason), array("q")).append(line.line)

    def close(self, total: Counts) -> None:
        if self._as_json:
            self._close_json(total)
            return
        for (path, kind, reason), lines in self._listed.items():
            more = f"; {len(lines):,} such lines" if len(lines) > 1 else ""
            sys.stderr.write(f"{path}:{lines[0]}: listed, {kind}: {reason}{more}\n")
        told = (f"{getattr(total, name):,} {name}" for name in total.__struct_fields__)
        sys.stdout.write(", ".join(told) + "\n")

    def _close_json(self, total: Counts) -> None:
        sys.stdout.write('{"problems": [')
        self._waiting.seek(0)
        shutil.copyfileobj(self._waiting, sys.stdout)
        counts = ", ".join(f'"{name}": {getattr(total, name)}' for name in total.__struct_fields__)
        sys.stdout.write(f'{chr(10) if self.count else ""}], {counts}, "lines_listed": [')
        for number, ((path, kind, reason), lines) in enumerate(self._listed.items()):
            told = {"file": path, "kind": kind, "reason": reason, "lines": lines.tolist()}
            sys.stdout.write((",\n  " if number else "\n  ") + _encode(told).decode())
        sys.stdout.write(f"{chr(10) if self._listed else ''}]}}\n")


def run_submit(home: Path | None, file: str, *, strict: bool) -> int:
    """Submit commands as they come, and print their answers; 1 when any was not accepted."""
    wrong = 0
    with contextlib.ExitStack() as stack:
        source = _open_commands(file, stack)
        parts = stack.enter_context(running(_heard(load_settings(home))))
        finish_transfers(parts)
        front = Front(parts, strict=strict)
        line = 0
        for lines in _chunks(source):
            facts: list[Fact | _Invalid] = []
            for text in lines:
                line += 1
                if text.strip():
                    facts.append(_parsed(text, line))
            wrong += _answer(front, facts)
    return 1 if wrong else 0


def _open_commands(file: str, stack: contextlib.ExitStack) -> int:
    if file == "-":
        return sys.stdin.fileno()
    try:
        return stack.enter_context(Path(file).open("rb")).fileno()
    except OSError as error:
        expected = f"a file of commands, or - for standard input: {error.strerror}"
        raise InvalidValue("FILE", file, expected) from None


def _chunks(source: int) -> Iterator[list[bytes]]:
    """Yield whole lines as soon as they are there, so that who waits for an answer gets it."""
    rest = b""
    while data := os.read(source, _READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


class _Invalid(Struct, frozen=True):
    """A line that holds no command, and the id that it tells all the same."""

    line: int
    command_id: str | None
    error: InvalidValue


def _parsed(text: bytes, line: int) -> Fact | _Invalid:
    try:
        return fact_from_json(text, line)
    except InvalidValue as error:
        return _Invalid(line, command_id_in(text), error)


def _answer(front: Front, facts: list[Fact | _Invalid]) -> int:
    answers = iter(front.submit([fact for fact in facts if isinstance(fact, Fact)]))
    wrong = 0
    for fact in facts:
        answer = next(answers) if isinstance(fact, Fact) else fact
        told = _told(fact, answer)
        wrong += told["status"] == "refused"
        sys.stdout.write(_encode(told).decode() + "\n")
    sys.stdout.flush()
    return wrong


def _told(fact: Fact | _Invalid, answer: Answer | Missing | _Invalid) -> dict[str, Any]:
    if isinstance(answer, _Invalid):
        where = {"detail": str(answer.error), "field": answer.error.field, "line": answer.line}
        return {**answer_json(answer.command_id, None), "reason": "invalid", **where}
    assert isinstance(fact, Fact)
    return answer_json(fact.request.command_id, answer)
