"""What a ledger answers to a command."""

from typing import Literal

from msgspec import Struct

from domain.commands import Topic
from domain.events import CommandRefused
from schemas import codec
from schemas.envelope import Record
from streams.log import TopicPartition

Status = Literal["accepted", "duplicate", "refused", "conflict", "lacking"]


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """The answer to one command.

    accepted: `event` was recorded. duplicate: it was there already, under this command id
    (`replayed`) or as a fact told under another one. refused: the refusal was recorded, or was
    there already (`replayed`). conflict: the command id was used for something else. lacking: it
    may be tried again when what `reason` names is there. The last two are not recorded, and have
    no position.

    `event` is the record's value as stored; `numbers` are those behind a reason.
    """

    status: Status
    command_id: str
    topic: Topic
    partition: int
    offset: int | None = None
    seq: int | None = None
    event_type: str | None = None
    event: bytes | None = None
    flags: tuple[str, ...] = ()
    reason: str | None = None
    detail: str | None = None
    numbers: dict[str, str] = {}
    replayed: bool = False

    @property
    def position(self) -> str | None:
        """The position token of the record: `3:12`, and outside events `prices/3:12`."""
        if self.offset is None:
            return None
        token = f"{self.partition}:{self.offset}"
        return token if self.topic == "events" else f"{self.topic}/{token}"


def answer_again(
    command_id: str, topic: Topic, record: Record, *, replayed: bool = False
) -> Answer:
    """Return the answer that a record stands for, to whoever asks again."""
    envelope = codec.envelope(record.value)
    refusal = codec.event_of(envelope) if envelope.type == "CommandRefused" else None
    refused = isinstance(refusal, CommandRefused)
    return Answer(
        status="refused" if refused else "duplicate",
        command_id=command_id,
        topic=topic,
        partition=record.partition,
        offset=record.offset,
        seq=envelope.seq,
        event_type=envelope.type,
        event=record.value,
        flags=envelope.flags,
        reason=refusal.reason if isinstance(refusal, CommandRefused) else None,
        numbers=refusal.numbers if isinstance(refusal, CommandRefused) else {},
        replayed=replayed,
    )


def conflict(command_id: str, place: TopicPartition, first: Answer) -> Answer:
    """Return the answer to a command whose id was used before, with other content."""
    return Answer(
        status="conflict",
        command_id=command_id,
        topic=place[0],
        partition=place[1],
        reason="conflict",
        detail=f"command id {command_id!r} was used before with other content",
        numbers={"first_position": first.position or "", "first_seq": str(first.seq)},
    )
