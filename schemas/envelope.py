"""The envelope that every record of every log wears, as it is hashed and kept for ever."""

from typing import Final

from msgspec import UNSET, Raw, Struct, UnsetType, field

from domain.commands import Source
from domain.events import Event
from domain.times import Instant

GENESIS_HASH: Final = "0" * 64
"""`prev_hash` of the first record of a stream."""


class Envelope(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One record's value. `data` is the event of that `type` and `version`, as JSON.

    Records of the events topic name their stream in `account`, those of the others in `key`;
    records about the partition itself (LogCreated, TermStarted, RecordParked) have neither, and
    `seq` 0. `prev_hash` is the SHA-256, in hex, of the previous valid record's value in the
    stream. `command_hash` is that of the command's canonical content.

    Version, seq, term and prev_hash are always written, whoever reads them: a default that is made
    is not left out.
    """

    id: str
    type: str
    version: int = field(default_factory=lambda: 1)
    account: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    seq: int = field(default_factory=int)
    term: int = field(default_factory=int)
    event_time: Instant
    recorded_time: Instant
    command_id: str = ""
    command_hash: str = ""
    correlation_id: str | None = None
    causation_id: str | None = None
    actor: str = ""
    code: str = ""
    basis: dict[str, str] = {}
    source: Source | None = None
    flags: tuple[str, ...] = ()
    prev_hash: str = field(default_factory=lambda: GENESIS_HASH)
    data: Raw

    @property
    def stream(self) -> str | None:
        """Name the stream: an account, an instrument, an entity; None for the log's own records."""
        if self.account is not UNSET:
            return self.account
        return None if self.key is UNSET else self.key


class Record(Struct, frozen=True, gc=False):
    """A record as a log keeps it: where it stands, its key, and the bytes that are hashed."""

    topic: str
    partition: int
    offset: int
    key: str | None
    value: bytes


class Recorded(Struct, frozen=True, gc=False):
    """A valid record, decoded: what projections fold. `hash` is the SHA-256 of its value, hex."""

    topic: str
    partition: int
    offset: int
    hash: str
    envelope: Envelope
    event: Event
