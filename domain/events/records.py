"""What any log may hold: refusals, and records about a partition itself."""

from typing import Any

from msgspec import field

from domain.events.parts import Event


class CommandRefused(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A command was decided against: why, the numbers behind it, and what was asked."""

    reason: str
    command_type: str
    asked: dict[str, Any]
    numbers: dict[str, str] = field(default_factory=dict)


class LogCreated(Event, frozen=True, kw_only=True, omit_defaults=True):
    """The first record of a partition: which log this is, how it is cut, how it is written."""

    log_id: str
    topic: str
    partition: int
    partitions: int
    format: int = 1


class TermStarted(Event, frozen=True, kw_only=True, omit_defaults=True):
    """An owner claims the partition: records of lower terms that come after it are void."""

    owner: str


class RecordParked(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A person set aside a record that no one can decode, so that readers may go on."""

    offset: int
    digest: str
