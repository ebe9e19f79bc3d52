"""The audit trail of access: who wrote, who read which account, who was turned away.

JSON Lines in the home, one file a day (UTC), appended to and never rewritten; each line holds the
digest of the line before it, a day's first that of the day before, so that a line or a day taken
out is missed. A line that was cut off, as by a loss of power, stays: the digest of it is one of
what stood before it, too. What a write decided is in the log itself, under its actor; here stands
that it was asked.
"""

import asyncio
import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

FOLDER: Final = "audit"
_NO_LINE: Final = "0" * 64
_NOTHING: Final = (-1, _NO_LINE)
"""Where the last line of this process ends in its file, and its digest: of none."""
_TAIL_BYTES: Final = 1 << 16
_encode = msgspec.json.Encoder().encode


class AuditTrail:
    """Appends records. Several processes on one home may: a lock on the folder orders them."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER
        self._turn = threading.Lock()
        self._lock: int | None = None
        self._day = ""
        self._file = -1
        self._written = _NOTHING
        self._gathered: list[tuple[dict[str, Any], asyncio.Future[None]]] = []

    def record(self, **told: Any) -> None:
        """Append a record; returns once the operating system has it."""
        self._append([told])

    async def recorded(self, **told: Any) -> None:
        """Append a record, with all that come in the same turn of the event loop.

        Returns once the operating system has it.
        """
        loop = asyncio.get_running_loop()
        if not self._gathered:
            loop.call_soon(self._append_gathered)
        done: asyncio.Future[None] = loop.create_future()
        self._gathered.append((told, done))
        await done

    def _append_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        waiting = [done for _, done in gathered if not done.done()]
        try:
            self._append([told for told, _ in gathered])
        except OSError as error:
            for done in waiting:
                done.set_exception(error)
        else:
            for done in waiting:
                done.set_result(None)

    def _append(self, records: Sequence[Mapping[str, Any]]) -> None:
        with self._turn:
            lock = self._locked()
            try:
                now_ns = time.time_ns()
                time_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 10**9))
                at = f"{time_text}.{now_ns % 10**9:09d}Z"
                file = self._opened(time_text[:10])
                size = os.fstat(file).st_size
                end, previous = self._written
                lines = bytearray()
                if size != end:  # another process has written since, or this one not at all
                    previous = self._digest_to_go_on(file, self._day)
                    if size and os.pread(file, 1, size - 1) != b"\n":
                        lines += b"\n"
                for told in records:
                    line = _encode({"time": at, **told, "previous": previous})
                    previous = hashlib.sha256(line).hexdigest()
                    lines += line + b"\n"
                self._written = _NOTHING
                _append_whole(file, size, lines)
                self._written = size + len(lines), previous
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            if self._lock is not None:
                os.close(self._lock)
                os.close(self._file)
                self._lock, self._day = None, ""

    def _locked(self) -> int:
        if self._lock is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self._lock

    def _opened(self, day: str) -> int:
        """Return the file of a day, the latest one where the clock went back behind it."""
        if day > self._day:
            if self._day:
                os.close(self._file)
            day = max([day, *(path.stem for path in days(self.folder)[-1:])])
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
            self._file = os.open(self.folder / f"{day}.jsonl", flags, 0o600)
            self._day, self._written = day, _NOTHING
        return self._file

    def _digest_to_go_on(self, file: int, day: str) -> str:
        """Return the digest that the next line of a day's file has of what is before it."""
        size = os.fstat(file).st_size
        rest = os.pread(file, _TAIL_BYTES, max(0, size - _TAIL_BYTES)).rstrip(b"\n")
        torn: list[bytes] = []
        while rest:
            rest, _, line = rest.rpartition(b"\n")
            if _previous(line) is not None:
                digest = _digest("", line)
                break
            torn.append(line)
        else:
            digest = self._digest_before(day)
        for line in reversed(torn):
            digest = _digest(digest, line)
        return digest

    def _digest_before(self, day: str) -> str:
        """Return the digest that the first line of a day has, of zeros where nothing is before."""
        for path in reversed([one for one in days(self.folder) if one.stem < day]):
            if path.stat().st_size:
                with path.open("rb") as earlier:
                    return self._digest_to_go_on(earlier.fileno(), path.stem)
        return _NO_LINE


def _append_whole(file: int, size: int, lines: bytearray) -> None:
    """Append to a file of that size, all or nothing; raises OSError."""
    written = os.write(file, lines)
    if written < len(lines):
        os.ftruncate(file, size)
        told = f"{written} of {len(lines)} bytes of the audit trail could be written"
        raise OSError(errno.ENOSPC, told)


def _digest(before: str, line: bytes) -> str:
    """Return the digest of a line; one that was cut off does not say what is before it."""
    told = line if _previous(line) is not None else before.encode() + line
    return hashlib.sha256(told).hexdigest()


def days(folder: Path) -> list[Path]:
    """Return the files of a trail, the earliest first."""
    return sorted(folder.glob("????-??-??.jsonl"))


class TrailCheck(Struct, frozen=True):
    """What a check of a trail went through, and the first line that is not as it must be.

    `torn` are lines that were cut off, and that the lines after them have digests of.
    """

    lines: int
    days: int
    fault: str | None
    torn: tuple[str, ...] = ()


def verify_trail(folder: Path) -> TrailCheck:
    """Check that each line of a trail holds the digest of the line before it."""
    lines, previous, files = 0, _NO_LINE, days(folder)
    torn: list[str] = []
    is_open = False
    for path in files:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                place, told = f"{FOLDER}/{path.name}:{number}", _previous(line)
                if told is None:
                    torn.append(place)
                elif told != previous:
                    fault = f"{place}: the line before it is another"
                    return TrailCheck(lines, len(files), fault, tuple(torn))
                is_open = told is None
                previous = _digest(previous, line.rstrip(b"\n"))
                lines += 1
    last = f"{torn.pop()}: no line of a trail" if is_open else None
    return TrailCheck(lines, len(files), last, tuple(torn))


def _previous(line: bytes) -> str | None:
    try:
        told = msgspec.json.decode(line)
        return str(told["previous"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return None


def read_lines(folder: Path, day: str, offset: int) -> Iterator[tuple[str, int, bytes]]:
    """Yield lines from an offset in bytes of a day on, each with its day and where it ends."""
    for path in days(folder):
        if path.stem < day:
            continue
        begin = offset if path.stem == day else 0
        with path.open("rb") as file:
            file.seek(begin)
            for line in file:
                begin += len(line)
                yield path.stem, begin, line.rstrip(b"\n")
