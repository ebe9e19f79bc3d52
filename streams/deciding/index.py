"""The decider's index on disk: RocksDB, beside the decider and disposable.

Entities by stream, kind and id; heads of streams; offsets by command; and how a reader of each
partition stands. Only what was read back from the log is in it, a write for each run of records,
whole or not at all. One that is damaged, of another log or of another format is made again.

All partitions are in one database, each under a prefix of its own: one write-ahead log, one cache.
"""

import contextlib
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from domain.entities import AnyEntity, Entity
from infra.errors import ServerUnavailable
from schemas.validity import Head, PartitionState
from streams.log import TOPICS, TopicPartition
from streams.memory import EntityRef

FORMAT: Final = 2
"""Raised when entities change their meaning, or what is kept of a partition its form."""

_ENTITY, _HEAD, _COMMAND, _STATE = b"e", b"h", b"c", b"s"
_PREFIX: Final = struct.Struct(">BH")
_OFFSET: Final = struct.Struct(">Q")
_HEADED: Final = struct.Struct(">Q32s")
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(AnyEntity)
_CACHE_BYTES: Final = 64 << 20
_WRITE_BUFFER_BYTES: Final = 32 << 20
_BLOOM_BITS: Final = 10
_KEPT_LOGS: Final = 2


class IndexDamaged(Exception):  # noqa: N818 - a state of the files
    """The index cannot be read or written: it has to be made again."""


class Standing(Struct, frozen=True):
    """How a partition's reader stands: what is kept of it beside the heads of its streams."""

    format: int
    log_id: str
    next_offset: int
    term: int
    recorded_ns: int
    voids: int
    parked: dict[int, list[str]] = {}


_STANDING: Final = msgspec.msgpack.Decoder(Standing)


class Store(Protocol):
    """An ordered map of bytes: RocksDB, or a dict where nothing has to outlive a test."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None where it has none."""
        ...

    def get_all(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of keys, None where one has none."""
        ...

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Yield the keys that begin with a prefix, and their values."""
        ...

    def write(self, puts: Mapping[bytes, bytes]) -> None:
        """Put values, all or none."""
        ...

    def forget(self, prefix: bytes) -> None:
        """Delete the keys that begin with a prefix."""
        ...


class PartitionIndex:
    """What the index holds of one partition."""

    def __init__(self, store: Store, place: TopicPartition) -> None:
        self._store = store
        self._prefix = _PREFIX.pack(TOPICS.index(place[0]), place[1])

    def entity(self, ref: EntityRef) -> Entity | None:
        """Return an entity, None where there is none."""
        kept = self._store.get(self._entity_key(ref))
        return None if kept is None else _decoded(_DECODER, kept)

    def entities(self, refs: Sequence[EntityRef]) -> list[Entity | None]:
        """Return entities in the order asked, None where there is none."""
        kept = self._store.get_all([self._entity_key(ref) for ref in refs])
        return [None if one is None else _decoded(_DECODER, one) for one in kept]

    def offsets(self, command_refs: Sequence[bytes]) -> list[int | None]:
        """Return where the records stand that answered commands, None where there is none."""
        begin = self._prefix + _COMMAND
        kept = self._store.get_all([begin + ref for ref in command_refs])
        return [None if one is None else _OFFSET.unpack(one)[0] for one in kept]

    def standing(self) -> Standing | None:
        """Return how the partition's reader stood, None where nothing was read yet."""
        kept = self._store.get(self._prefix + _STATE)
        return None if kept is None else _decoded(_STANDING, kept)

    def heads(self) -> dict[str, Head]:
        """Return the seq and hash of each stream's last record."""
        begin = self._prefix + _HEAD
        heads: dict[str, Head] = {}
        for key, value in self._store.scan(begin):
            seq, digest = _HEADED.unpack(value)
            heads[key[len(begin) :].decode()] = (seq, digest.hex())
        return heads

    def write(
        self,
        entities: Mapping[EntityRef, Entity],
        heads: Mapping[str, Head],
        commands: Mapping[bytes, int],
        standing: Standing,
    ) -> None:
        """Write what records have changed, and how the reader stands after them, as one."""
        prefix = self._prefix
        puts = {self._entity_key(ref): _ENCODE(entity) for ref, entity in entities.items()}
        for key, (seq, digest) in heads.items():
            puts[prefix + _HEAD + key.encode()] = _HEADED.pack(seq, bytes.fromhex(digest))
        for ref, offset in commands.items():
            puts[prefix + _COMMAND + ref] = _OFFSET.pack(offset)
        puts[prefix + _STATE] = _ENCODE(standing)
        self._store.write(puts)

    def forget(self) -> None:
        """Empty the partition."""
        self._store.forget(self._prefix)

    def _entity_key(self, ref: EntityRef) -> bytes:
        key, kind, entity_id = ref
        return b"%b%b%b\0%b\0%b" % (
            self._prefix,
            _ENTITY,
            key.encode(),
            kind.encode(),
            entity_id.encode(),
        )


def standing_of(state: PartitionState, recorded_ns: int, voids: int) -> Standing:
    """Return what is kept of a reader's state."""
    return Standing(
        FORMAT, state.log_id, state.next_offset, state.term, recorded_ns, voids, state.parked
    )


def _decoded(decoder: Any, kept: bytes) -> Any:
    try:
        return decoder.decode(kept)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IndexDamaged(f"an entry cannot be decoded: {error}") from error


class RocksStore:
    """An index in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        # Loaded here: the command line is to know this module without loading RocksDB.
        import rocksdict

        self._rocksdict = rocksdict
        self._folder = folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._db = self._opened()

    @classmethod
    def open(cls, folder: Path) -> "RocksStore":
        """Open the index in a folder; one that is damaged is thrown away.

        Raises ServerUnavailable where none can be made.
        """
        with contextlib.suppress(IndexDamaged):
            return cls(folder)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            return cls(folder)
        except IndexDamaged as damaged:
            hint = "is the disk full, may the folder be written to?"
            raise ServerUnavailable("the decider's index", str(damaged), hint) from damaged

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def destroy(self) -> None:
        """Close it and throw it away."""
        self._db.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _opened(self) -> Any:
        module = self._rocksdict
        options = module.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_background_jobs(2)
        options.set_keep_log_file_num(_KEPT_LOGS)
        options.set_compression_type(module.DBCompressionType.lz4())
        blocks = module.BlockBasedOptions()
        blocks.set_block_cache(module.Cache(_CACHE_BYTES))
        # Most ids that are looked up are new: a filter spares looking for them on disk.
        blocks.set_bloom_filter(_BLOOM_BITS, block_based=False)
        options.set_block_based_table_factory(blocks)
        return self._try(module.Rdict, str(self._folder), options)

    def _try(self, call: Any, *arguments: Any) -> Any:
        # rocksdict raises Exception itself, and never anything that says more.
        try:
            return call(*arguments)
        except Exception as error:
            raise IndexDamaged(f"{self._folder}: {error}") from error

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None where it has none."""
        found: bytes | None = self._try(self._db.get, key)
        return found

    def get_all(self, keys: list[bytes]) -> list[bytes | None]:
        """Return the values of keys, None where one has none."""
        found: list[bytes | None] = self._try(self._db.get, keys) if keys else []
        return found

    def scan(self, prefix: bytes) -> Iterable[tuple[bytes, bytes]]:
        """Return the keys that begin with a prefix, and their values."""
        return list(self._try(self._scanned, prefix))

    def _scanned(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        found = []
        for key, value in self._db.items(from_key=prefix):
            if not key.startswith(prefix):
                break
            found.append((key, value))
        return found

    def write(self, puts: Mapping[bytes, bytes]) -> None:
        """Put values, all or none."""
        batch = self._rocksdict.WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in puts.items():
            put(key, value)
        self._try(self._db.write, batch)

    def forget(self, prefix: bytes) -> None:
        """Delete the keys that begin with a prefix."""
        end = (int.from_bytes(prefix) + 1).to_bytes(len(prefix))
        self._try(self._db.delete_range, prefix, end)
