"""What a decider answers, and the view of the past that it decides from."""

from typing import Protocol

from msgspec import Struct

from domain.entities import Entity
from domain.events import Event
from domain.times import Instant

EntityKey = tuple[str, str]
"""Kind and id of an entity of one stream: ("order", "O1")."""


class View(Protocol):
    """What a decider may look at: the entities of its own stream, and instruments as defined."""

    def get(self, kind: str, entity_id: str) -> Entity | None:
        """Return an entity of the stream, or None where there is none.

        To a decider of accounts, kind "instrument" is the entity ("instrument", "") of the
        reference stream whose key is `entity_id`; every other kind is its own stream's.
        """
        ...


class Accepted(Struct, frozen=True, gc=False):
    """The one event a command yields, and what a person should look at in it."""

    event: Event
    flags: tuple[str, ...] = ()


class Refused(Struct, frozen=True):
    """A command decided against. It is recorded: `reason`, and the numbers behind it."""

    reason: str
    numbers: dict[str, str] = {}


class Lacking(Struct, frozen=True):
    """A command that only lacked something: not recorded, and may be tried again."""

    reason: str
    detail: str


class Known(Struct, frozen=True):
    """A fact that is there already, told again under another command id with the same content."""

    offset: int
    seq: int


Decision = Accepted | Refused | Lacking | Known


class Stamped(Struct, frozen=True, gc=False):
    """An event with its place in its stream, as `evolve` and the folds take it.

    `content_hash` is that of the command's content, by which a repeated id is told from a conflict.
    """

    event: Event
    key: str
    seq: int
    offset: int
    event_time: Instant
    recorded_time: Instant = Instant("")
    partition: int = 0
    content_hash: str = ""
    flags: tuple[str, ...] = ()
