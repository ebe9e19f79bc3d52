"""Copies of an account's tables as Arrow files: an export reads from the store what has changed.

Rows of these tables are never deleted, and each has the offset of its last change. So a file of all
rows as of an offset, and the rows that changed since, are the table as it is. A file counts only
for the log, the tables and the program that it was made of; where in doubt it is made anew.
"""

import contextlib
import logging
import os
import tempfile
import time
from bisect import bisect_right
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from api.tables import Extents

_log = logging.getLogger(__name__)
FOLDER: Final = "copies"
LEAST_ROWS: Final = 20_000
"""A shorter table is read from the store as quickly."""
MOST_BYTES: Final = 4 << 30
"""What all copies may take; those that were used longest ago go first."""
_ABANDONED_S: Final = 3_600
_NOTE: Final = b"daybook.copy"


class Note(Struct, frozen=True):
    """What a copy holds: the rows that changed last below `end`, their decimals' extents.

    `made_of` changes with anything that could make other rows of the same records; `digest` is of
    the last of these records.
    """

    made_of: str
    end: int
    digest: str
    extents: Extents


class Copy(Struct, frozen=True):
    """A copy that is there: a reader of its record batches, whose rows are in order of their id."""

    note: Note
    reader: Any

    @property
    def batches(self) -> Generator[Any, None, None]:
        """Yield the record batches as they are in the file."""
        for number in range(self.reader.num_record_batches):
            yield self.reader.get_batch(number).replace_schema_metadata(None)

    def replaced(self, ids: Any, name: str) -> int:
        """Return how many of these ids the copy has."""
        import pyarrow.compute as pc

        found = (pc.sum(pc.is_in(one.column(name), value_set=ids)) for one in self.batches)
        return sum(one.as_py() for one in found)

    def with_changed(self, changed: Any, name: str) -> Generator[Any, None, None]:
        """Yield the rows with changed ones in their places, in order of the id `name`."""
        ids = changed[name].to_pylist()
        done = 0
        for batch in self.batches:
            start, done = done, bisect_right(ids, batch.column(name)[-1].as_py())
            if start == done:
                yield batch
            else:
                yield from _merged(batch, changed.slice(start, done - start), name)
        yield from changed.slice(done).to_batches()


def _merged(batch: Any, changed: Any, name: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_old = pc.is_in(batch.column(name), value_set=changed[name].combine_chunks())
    rest = pa.Table.from_batches([batch.filter(pc.invert(is_old))])
    yield from pa.concat_tables([rest, changed]).sort_by(name).combine_chunks().to_batches()


class Copies:
    """The copies of a home. Any thread and process may use them at once."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def find(self, name: str, made_of: str, end: int) -> Copy | None:
        """Return the copy of a table as it was at `end` or before, None where there is none."""
        import pyarrow as pa

        path = self._path(name)
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            note = msgspec.json.decode(reader.schema.metadata[_NOTE], type=Note)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, pa.ArrowException, msgspec.MsgspecError) as error:
            _log.warning("the copy %s is not used: %r", path.name, error)
            return None
        return Copy(note, reader) if note.made_of == made_of and note.end <= end else None

    def kept(
        self, name: str, note: Note, schema: Any, tables: Generator[Any, None, None]
    ) -> Generator[Any, None, None]:
        """Yield tables or batches as they come; once all came, they are the copy."""
        rows = 0
        making = contextlib.closing(_Part(self._folder, note, schema))
        with contextlib.closing(tables), making as part:
            for table in tables:
                part.add(table)
                rows += table.num_rows
                yield table
            if rows >= LEAST_ROWS:
                part.finish(self._path(name))
        self._make_room()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.arrow"

    def _make_room(self) -> None:
        if not self._folder.is_dir():
            return
        found = []
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                told = path.stat()
                found.append((told.st_mtime, told.st_size, path))
        size = sum(one[1] for one in found)
        for used_at, own_size, path in sorted(found):
            is_abandoned = path.suffix == ".part" and used_at < time.time() - _ABANDONED_S
            if size > MOST_BYTES or is_abandoned:
                path.unlink(missing_ok=True)
                size -= own_size


class _Part:
    """A copy that is being made. A disk that does not take it fails nobody's export."""

    def __init__(self, folder: Path, note: Note, schema: Any) -> None:
        self._stack = contextlib.ExitStack()
        self._writer: Any = None
        with self._given_up():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, text = tempfile.mkstemp(".part", dir=folder)
            os.close(number)
            self._path = Path(text)
            self._stack.callback(self._path.unlink, missing_ok=True)
            self._writer = self._opened(schema.with_metadata({_NOTE: msgspec.json.encode(note)}))

    def _opened(self, schema: Any) -> Any:
        import pyarrow as pa

        file = self._stack.enter_context(pa.OSFile(str(self._path), "wb"))
        return pa.ipc.new_file(file, schema)

    def add(self, table: Any) -> None:
        """Write rows."""
        if self._writer is not None:
            with self._given_up():
                self._writer.write(table)

    def finish(self, path: Path) -> None:
        """Put the file in its place, where nothing went wrong."""
        if self._writer is not None:
            with self._given_up():
                self._writer.close()
                self._path.replace(path)

    def close(self) -> None:
        """Take away what is not finished."""
        with self._given_up():
            self._stack.close()

    @contextlib.contextmanager
    def _given_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._writer = None
            _log.warning("no copy of a table is kept: %s", error)
