"""The file that facts came from: its digest, which every one of them names, and a copy to show."""

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from api.importing.lines import UnreadableFile, open_input

_CHUNK: Final = 1 << 20


class Content(Struct, frozen=True):
    """What a file holds, unpacked if gzipped: its SHA-256 in hex, and how many bytes it is."""

    digest: str
    size: int


def content_of(path: str) -> Content:
    """Return what a file holds now; raises UnreadableFile."""
    digest, size = hashlib.sha256(), 0
    for chunk in _chunks(path):
        digest.update(chunk)
        size += len(chunk)
    return Content(digest.hexdigest(), size)


def keep_copy(folder: Path, path: str, content: Content) -> bool:
    """Keep a copy of what a file held, unpacked, under its digest; it can be erased there.

    Tells whether there is one: a file that holds something else by now is not kept. Raises
    UnreadableFile.
    """
    kept = folder / content.digest
    if kept.exists() and kept.stat().st_size == content.size:
        return True
    folder.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}.partial")
    digest = hashlib.sha256()
    try:
        with partial.open("wb") as copy:
            for chunk in _chunks(path):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            # Else a power loss may leave an empty file under the name of one that was not.
            os.fsync(copy.fileno())
        if digest.hexdigest() != content.digest:
            return False
        partial.replace(kept)
        return True
    finally:
        partial.unlink(missing_ok=True)


def _chunks(path: str) -> Iterator[bytes]:
    with open_input(path) as file:
        try:
            while chunk := file.read(_CHUNK):
                yield chunk
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableFile(path, f"it breaks off: {error}") from error
