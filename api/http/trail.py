"""The log itself: events as stored, with their positions and hashes."""

from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.responses import Response

from api.events_json import event_json
from api.http import parameters as p
from api.http.cursors import from_cursor, to_cursor
from api.http.formats import tag, whole
from api.http.openapi import page_schema
from api.http.operation import Call, Operation, Reply
from api.http.problems import FORBIDDEN, UNKNOWN_ACCOUNT, Problem
from api.questions import known_at_from
from api.wiring import Parts
from domain.commands import Topic
from domain.errors import InvalidValue
from domain.times import Instant
from schemas.partitioning import partition_of
from streams.log import TOPICS, Log
from streams.positions import KnownAt, check_reached, known_at_instant

_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "type", "version", "recorded_time", "data", "position", "hash"],
}
_EXAMPLE: Final = {
    "id": "0190b5c0-0000-7000-8000-000000000004",
    "type": "CashMoved",
    "version": 1,
    "account": "A1",
    "seq": 2,
    "event_time": "2024-01-02T14:30:00.000000000Z",
    "recorded_time": "2024-01-02T14:30:04.000000000Z",
    "command_id": "c-1",
    "prev_hash": "0" * 64,
    "data": {"cash_id": "C1", "kind": "deposit", "amount": "1000", "currency": "USD"},
    "position": "3:12",
    "hash": "f" * 64,
}
_ABOUT: Final = (
    (p.INSTRUMENT, "instrument"),
    (p.ORDER, "order_id"),
    (p.DEAL, "deal_id"),
    (p.CURRENCY, "currency"),
)
"""Parameters, and the fields of an event's data that they pick by."""
_NOTHING: Final = "there is no such account, or it is not yours"


def operations() -> list[Operation]:
    """Return the operations that read the log."""
    return [
        Operation(
            name="read_events",
            method="GET",
            path="/v1/events",
            summary="Events as stored, with position and hash",
            description="Of one account in its order, or partition by partition. `after` names"
            " positions already had. The `next` of the last page goes on when more is there."
            " With `account`, `instrument`, `order`, `deal` and `currency` leave out the events"
            " whose data, or one of its legs, has another one or none.",
            scope="read",
            parameters=(
                p.TOPIC,
                p.ACCOUNT,
                *(parameter for parameter, _ in _ABOUT),
                p.KNOWN_AT,
                p.AFTER,
                p.MIN_POSITION,
                p.CURSOR,
                p.LIMIT,
            ),
            answer=_answer,
            replies={
                200: Reply(
                    "Events.",
                    page_schema(_EVENT),
                    {"data": [_EXAMPLE], "next": None, "position": "3:12"},
                )
            },
        )
    ]


class _Asked(Struct, frozen=True):
    topic: Topic
    account: str | None
    about: tuple[tuple[str, str], ...]
    """Fields of an event's data, and what they must be."""
    offsets: dict[int, int]
    """By partition, the offset to go on from."""
    limit: int
    known_at: KnownAt | Instant | None


class _Told(Struct, frozen=True):
    data: dict[str, Any]


class _Found(Struct, frozen=True):
    events: list[bytes]
    offsets: dict[int, int]
    is_more: bool


async def _answer(call: Call) -> Response:
    asked = p.asked(call.request, call.operation.parameters)
    services = call.services
    topic: Topic = next(one for one in TOPICS if one == asked.choice(p.TOPIC, "events"))
    account = asked.id(p.ACCOUNT)
    await _check_allowed(call, topic, account)
    await services.wait_for(asked.places(p.MIN_POSITION, services.partitions), ())
    same = f"{services.log_id} events {asked.question()}"
    wanted = _Asked(
        topic,
        account,
        _about(asked, topic, account),
        _start(call, asked, topic, same),
        asked.limit() or p.DEFAULT_LIMIT,
        known_at_from(asked.get(p.KNOWN_AT)),
    )
    return await services.readers.run(
        lambda parts: _response(call, wanted, _read(parts, wanted), same)
    )


def _response(call: Call, asked: _Asked, found: _Found, same: str) -> Response:
    following = to_cursor(sorted(found.offsets.items()), same) if found.is_more else None
    position = _position(asked.topic, found.offsets)
    data = b"[" + b",".join(found.events) + b"]"
    content = b'{"data":%b,"next":%b,"position":%b}' % (
        data,
        msgspec.json.encode(following),
        msgspec.json.encode(position),
    )
    headers = {"Daybook-Position": position}
    return whole(call.request, content, "json", tag(data, following or ""), headers)


async def _check_allowed(call: Call, topic: Topic, account: str | None) -> None:
    if topic != "events" or call.principal.accounts is None:
        return
    if account is None:
        raise Problem(FORBIDDEN, "account: expected one of yours, for you may not see all")
    if not await call.services.owns(call.principal, account):
        raise Problem(UNKNOWN_ACCOUNT, _NOTHING)


def _start(call: Call, asked: p.Asked, topic: Topic, same: str) -> dict[int, int]:
    cursor = asked.get(p.CURSOR)
    if cursor is not None:
        return dict(from_cursor(cursor, same))
    places = asked.places(p.AFTER, call.services.partitions)
    if any(told != topic for told, _ in places):
        raise InvalidValue("after", asked.get(p.AFTER), f"positions of {topic}")
    return {partition: offset + 1 for (_, partition), offset in places.items()}


def _about(asked: p.Asked, topic: Topic, account: str | None) -> tuple[tuple[str, str], ...]:
    told = tuple(
        (name, value) for parameter, name in _ABOUT if (value := asked.id(parameter)) is not None
    )
    if told and (account is None or topic != "events"):
        # Looking through the whole log for a few events is no question of one request.
        raise InvalidValue("account", account, "the account whose events are looked through")
    return told


def _is_about(value: bytes, about: tuple[tuple[str, str], ...]) -> bool:
    """Tell whether the data of a record, or one of its legs, has all of this."""
    if not all(msgspec.json.encode(told) in value for _, told in about):
        return False
    try:
        data = msgspec.json.decode(value, type=_Told).data
    except msgspec.DecodeError:  # it was set aside: it tells nothing
        return False
    legs = [one for one in data.get("legs") or () if isinstance(one, dict)]
    return any(all(one.get(name) == told for name, told in about) for one in (data, *legs))


def _read(parts: Parts, asked: _Asked) -> _Found:
    log = parts.log
    heads = _ends(log, asked)
    if asked.account is None:
        return _read_partitions(log, asked, heads)
    partition = partition_of(asked.account, log.partitions)
    offset = asked.offsets.get(partition, 0)
    events: list[bytes] = []
    is_there = False
    for record in parts.streams.read_stream(asked.topic, asked.account, heads[partition]):
        is_there = True
        if record.offset < offset or (asked.about and not _is_about(record.value, asked.about)):
            continue
        if len(events) == asked.limit:
            return _Found(events, {partition: offset}, True)
        events.append(event_json(record))
        offset = record.offset + 1
    if not is_there and not asked.offsets:
        raise Problem(UNKNOWN_ACCOUNT, _NOTHING)
    return _Found(events, {partition: heads[partition]}, False)


def _ends(log: Log, asked: _Asked) -> list[int]:
    """Return by partition the offset at which the log ends, or what is asked for of it."""
    heads, known_at = log.heads(asked.topic), asked.known_at
    if known_at is None:
        return heads
    if isinstance(known_at, str):
        known_at = known_at_instant(log, known_at)
    else:
        known_at = check_reached(log, known_at)
    return [known_at.end(asked.topic, number, head) for number, head in enumerate(heads)]


def _read_partitions(log: Log, asked: _Asked, heads: list[int]) -> _Found:
    offsets = {number: asked.offsets.get(number, 0) for number in range(len(heads))}
    events: list[bytes] = []
    for partition, head in enumerate(heads):
        while (left := asked.limit - len(events)) > 0 and offsets[partition] < head:
            records = log.read(asked.topic, partition, offsets[partition], left)
            if not records:
                break
            events += map(event_json, records)
            offsets[partition] = records[-1].offset + 1
    is_more = any(offsets[number] < head for number, head in enumerate(heads))
    return _Found(events, offsets, is_more)


def _position(topic: Topic, offsets: dict[int, int]) -> str:
    prefix = "" if topic == "events" else f"{topic}/"
    places = [(number, offset - 1) for number, offset in sorted(offsets.items()) if offset > 0]
    return ",".join(f"{prefix}{number}:{offset}" for number, offset in places) or f"{prefix}0:0"
