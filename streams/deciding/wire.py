"""Commands and replies as they stand in Kafka.

A command is JSON, to be read by people; one that does not encode to the very bytes again says
something that this version does not know, and is refused. A reply lives for seconds and is
MessagePack. Headers say whom to answer, and what has to be read before deciding.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, get_args

import msgspec
from msgspec import Raw, Struct

from domain import commands
from domain.commands import Command, Request, Source, Topic, topic_of
from domain.entities import AnyEntity, Entity
from domain.errors import InvalidValue, shorten
from domain.identifiers import check_id
from domain.times import Instant, parse_instant
from domain.validation import check_command, check_origin
from schemas.partitioning import partition_of
from streams.answers import Answer

ASK: Final = "daybook-ask"
"""Which asking this is, by the asker's own count: the reply repeats it."""
REPLY_TO: Final = "daybook-reply-to"
"""The partition of replies that the asker reads."""
AFTER: Final = "daybook-after"
"""Positions of the reference log that have to be read before deciding."""
LARGEST_COMMAND: Final = 1024 * 1024
"""Bytes of a command: an event may be thrice as long, and several go into one append."""

_COMMANDS: Final[dict[str, type[Command]]] = {
    struct.__name__: struct
    for union in get_args(commands.Command)
    for struct in (get_args(union) or (union,))
}
_POSITIONS: Final = re.compile(r"[0-9]{1,5}:[0-9]{1,18}(,[0-9]{1,5}:[0-9]{1,18})*")
_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z")
_MALFORMED: Final = (ValueError, RecursionError)

Headers = list[tuple[str, bytes]]


class Undecidable(Exception):  # noqa: N818 - a command that is, not an error that happens
    """Say why a record of the commands topic can never be decided."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class LookUp(Struct, frozen=True):
    """A question instead of a command: an entity, once what was asked before it has landed."""

    topic: Topic
    key: str
    kind: str
    entity_id: str


class _Told(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    command_id: str
    type: str
    key: str
    event_time: Instant
    data: Raw
    actor: str = "local"
    correlation_id: str | None = None
    causation_id: str | None = None
    source: Source | None = None
    flags: tuple[str, ...] = ()


class _LookUpTold(Struct, frozen=True, forbid_unknown_fields=True):
    look_up: LookUp


class Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comes back: the answer to a command, or the entity that was looked up."""

    answer: Answer | None = None
    entity: AnyEntity | None = None


class Route(Struct, frozen=True):
    """Where an answer goes, and what has to be read before: offsets by partition of reference."""

    ask: bytes | None = None
    reply_to: int | None = None
    after: Mapping[int, int] = {}


_ENCODER: Final = msgspec.json.Encoder()
_TOLD: Final = msgspec.json.Decoder(_Told)
_LOOK_UP: Final = msgspec.json.Decoder(_LookUpTold)
_DATA: Final = {name: msgspec.json.Decoder(struct) for name, struct in _COMMANDS.items()}
_PACK: Final = msgspec.msgpack.Encoder()
_REPLY: Final = msgspec.msgpack.Decoder(Reply)


def encode_request(request: Request) -> bytes:
    """Return a command's value."""
    return _ENCODER.encode(
        _Told(
            command_id=request.command_id,
            type=type(request.command).__name__,
            key=request.key,
            event_time=request.event_time,
            data=Raw(_ENCODER.encode(request.command)),
            actor=request.actor,
            correlation_id=request.correlation_id,
            causation_id=request.causation_id,
            source=request.source,
            flags=request.flags,
        )
    )


def encode_look_up(look_up: LookUp) -> bytes:
    """Return a question's value."""
    return _ENCODER.encode(_LookUpTold(look_up))


def decode_asked(
    key: bytes | None, value: bytes, partition: int, partitions: int
) -> Request | LookUp:
    """Return what a record of the commands topic asks; raises Undecidable."""
    if len(value) > LARGEST_COMMAND:
        raise Undecidable(f"{len(value)} bytes are more than a command may have, {LARGEST_COMMAND}")
    asked = _look_up(value) if value.startswith(b'{"look_up"') else _request(value)
    if key != asked.key.encode():
        raise Undecidable(f"the record's key is {shorten(repr(key))}, not {shorten(asked.key)!r}")
    if (belongs := partition_of(asked.key, partitions)) != partition:
        raise Undecidable(f"commands of {shorten(asked.key)!r} belong in partition {belongs}")
    return asked


def _look_up(value: bytes) -> LookUp:
    try:
        return _LOOK_UP.decode(value).look_up
    except _MALFORMED as error:
        raise Undecidable(shorten(str(error), 300)) from None


def _request(value: bytes) -> Request:
    try:
        told = _TOLD.decode(value)
        decoder = _DATA.get(told.type)
        if decoder is None:
            raise Undecidable(f"type: {shorten(told.type)!r} is not a command known here")
        request = Request(
            command_id=told.command_id,
            key=told.key,
            event_time=told.event_time,
            # Whoever wrote it need not have been Daybook's own front, which checks it too.
            command=check_command(decoder.decode(told.data)),
            actor=told.actor,
            correlation_id=told.correlation_id,
            causation_id=told.causation_id,
            source=told.source,
            flags=told.flags,
        )
        check_id(request.command_id, "command_id")
        _check_key(request.key)
        check_origin(request)
        if not _INSTANT.fullmatch(request.event_time):
            raise Undecidable("event_time is not in UTC to the nanosecond")
        _check_second(request.event_time[:19])
    except InvalidValue as error:
        raise Undecidable(str(error)) from None
    except _MALFORMED as error:
        raise Undecidable(shorten(str(error), 300)) from None
    if (ours := encode_request(request)) != value:
        raise Undecidable(_difference(msgspec.json.decode(value), msgspec.json.decode(ours), ""))
    return request


def _difference(told: Any, ours: Any, path: str) -> str:
    """Say where a command is not written as Daybook writes it."""
    if isinstance(told, dict) and isinstance(ours, dict):
        for name in told:
            at = f"{path}{shorten(name)}"
            if name not in ours:
                expected = "no such field, or another value"
                return str(InvalidValue(at, told[name], expected))
            if told[name] != ours[name]:
                return _difference(told[name], ours[name], f"{at}.")
    elif told != ours:
        return str(InvalidValue(path.removesuffix("."), told, f"{shorten(ours)!r}"))
    return "it is not written as Daybook writes it: in the order of its fields, the spaces, escapes"


def asked_topic(asked: Request | LookUp) -> Topic:
    """Return the log that a command or a question is about."""
    return asked.topic if isinstance(asked, LookUp) else topic_of(asked.command)


def encode_reply(answer: Answer | None, entity: Entity | None = None) -> bytes:
    """Return a reply's value."""
    return _PACK.encode(Reply(answer=answer, entity=entity))  # type: ignore[arg-type]


def decode_reply(value: bytes) -> Reply:
    """Return a reply; raises ValueError for what is none."""
    return _REPLY.decode(value)


def headers_of(route: Route) -> Headers:
    """Return the headers that tell a route."""
    told: Headers = []
    if route.ask is not None and route.reply_to is not None:
        told += [(ASK, route.ask), (REPLY_TO, str(route.reply_to).encode())]
    if route.after:
        positions = (f"{partition}:{offset}" for partition, offset in route.after.items())
        told.append((AFTER, ",".join(positions).encode()))
    return told


def route_of(headers: Iterable[tuple[str, Any]], partitions: int) -> Route:
    """Return the route that headers tell; raises Undecidable for one that cannot be."""
    told = dict(headers)
    reply_to, after = _destination(told.get(REPLY_TO), told.get(AFTER), partitions)
    return Route(told.get(ASK), reply_to, after)


@lru_cache(maxsize=64)
def _destination(
    reply_to: bytes | None, after: bytes | None, partitions: int
) -> tuple[int | None, Mapping[int, int]]:
    if reply_to is not None and not (reply_to.isdigit() and int(reply_to) < partitions):
        raise Undecidable(f"header {REPLY_TO} is {shorten(repr(reply_to))}, not a partition")
    return None if reply_to is None else int(reply_to), _positions(after or b"", partitions)


def _positions(told: bytes, partitions: int) -> Mapping[int, int]:
    text = told.decode(errors="replace")
    if text and not _POSITIONS.fullmatch(text):
        raise Undecidable(f"header {AFTER} is {shorten(text)!r}, not positions")
    pairs = (pair.partition(":") for pair in text.split(",") if pair)
    after = {int(partition): int(offset) for partition, _, offset in pairs}
    if any(partition >= partitions for partition in after):
        raise Undecidable(f"header {AFTER} names a partition that is not there")
    return after


@lru_cache(maxsize=4096)
def _check_second(told: str) -> None:
    parse_instant(told + "Z", "event_time")


@lru_cache(maxsize=4096)
def _check_key(told: str) -> None:
    check_id(told, "key")
