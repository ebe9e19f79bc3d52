"""The audit trail of access: who wrote, who read which account, who was turned away.

JSON Lines in the home, one file a day (UTC), appended to and never rewritten; each line holds the
digest of the line before it, so that one taken out is missed. What a write decided is in the log
itself, under its actor; here stands that it was asked.
"""

import fcntl
import hashlib
import os
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec

FOLDER: Final = "audit"
_NO_LINE: Final = "0" * 64
_TAIL_BYTES: Final = 1 << 16
_encode = msgspec.json.Encoder().encode


class AuditTrail:
    """Appends records. Several processes on one home may: a lock orders them."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER
        self._turn = threading.Lock()
        self._day = ""
        self._file: int | None = None

    def record(self, **told: Any) -> None:
        """Append a record; returns once the operating system has it."""
        now_ns = time.time_ns()
        time_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_ns // 10**9))
        with self._turn:
            file = self._opened(time_text[:10])
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                previous = _last_digest(file)
                told = {"time": f"{time_text}.{now_ns % 10**9:09d}Z", **told, "previous": previous}
                os.write(file, _encode(told) + b"\n")
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _opened(self, day: str) -> int:
        if self._file is None or day != self._day:
            if self._file is not None:
                os.close(self._file)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
            self._file = os.open(self._folder / f"{day}.jsonl", flags, 0o600)
            self._day = day
        return self._file


def _last_digest(file: int) -> str:
    """Return the SHA-256 of a file's last line, of zeros where it has none."""
    size = os.fstat(file).st_size
    if not size:
        return _NO_LINE
    tail = os.pread(file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    line = tail.rstrip(b"\n").rpartition(b"\n")[2]
    return hashlib.sha256(line).hexdigest()


def verify_trail(path: Path) -> int | None:
    """Return the number of the first line whose predecessor was altered, None where all hold."""
    previous = _NO_LINE
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if msgspec.json.decode(line)["previous"] != previous:
                return number
            previous = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
    return None
