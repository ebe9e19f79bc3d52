"""The log itself: events as stored, with their positions and hashes."""

import re
from collections import deque
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.responses import Response

from api.events_json import event_json
from api.http import parameters as p
from api.http.cursors import from_cursor, to_cursor
from api.http.event_times import ZONED, Timely, Told, Zones
from api.http.formats import tag, whole
from api.http.openapi import page_schema
from api.http.operation import Call, Operation, Reply
from api.http.pages import Period
from api.http.problems import FORBIDDEN, UNKNOWN_ACCOUNT, Problem
from api.questions import known_at_from
from api.wiring import Parts
from domain.commands import Topic
from domain.errors import InvalidValue
from domain.times import Instant
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams.log import TOPICS
from streams.past import NOW, AsOf
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
_NAMES: Final = {
    "deal_id": "deal",
    "chain_id": "deal",
    "ref_deal_id": "deal",
    "cash_id": "cash",
    "ref_cash_id": "cash",
    "movement_id": "movement",
    "ref_movement_id": "movement",
}
"""Fields that name a fact, or one told before, and what kind of fact it is."""
_DATED: Final = (p.FROM.name, p.TO.name, p.AS_OF.name)
_REFERS: Final = re.compile(rb'"(?:chain_id|ref_[a-z]+_id)"').search
_AROUND: Final = 8
"""Records of the partition that are looked through at first for one of an account's newest."""
_LOOKED_THROUGH: Final = 10_000
"""Records that are looked through for one page of a period, where no account is told."""
_AT_ONCE: Final = 1_000
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
            " `from` and `to` leave out the events of other times, each by its own date or time:"
            " pages may then be short, or empty, though `next` goes on."
            " With `account`, `instrument`, `order`, `deal` and `currency` leave out the events"
            " whose data, or one of its legs, has another one or none; a correction, bust,"
            " reversal or fee comes with the fact that it is about. With `as_of` facts of later"
            " times are left out, and what amends them; without `account` all that amends others"
            " is kept.",
            scope="read",
            parameters=(
                p.TOPIC,
                p.ACCOUNT,
                *(parameter for parameter, _ in _ABOUT),
                p.FROM,
                p.TO,
                p.AS_OF,
                p.KNOWN_AT,
                p.NEWEST,
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
    period: Period
    as_of: AsOf
    known_at: KnownAt | Instant | None
    is_newest: bool


class _Found(Struct, frozen=True):
    events: list[bytes]
    offsets: dict[int, int]
    """By partition, up to where the log was looked through."""
    rest: dict[int, int] | None
    """The same where the next page begins; None where nothing is left."""


async def _answer(call: Call) -> Response:
    asked = p.asked(call.request, call.operation.parameters)
    services = call.services
    topic: Topic = next(one for one in TOPICS if one == asked.choice(p.TOPIC, "events"))
    account = asked.id(p.ACCOUNT)
    await _check_allowed(call, topic, account)
    await services.wait_for(asked.places(p.MIN_POSITION, services.partitions), ())
    if topic in ZONED and not asked.told.keys().isdisjoint(_DATED):
        await services.wait_for({}, (ZONED[topic].name,), account)
    same = f"{services.log_id} events {asked.question()}"
    wanted = _Asked(
        topic,
        account,
        _about(asked, topic, account),
        _start(call, asked, topic, same),
        asked.limit() or p.DEFAULT_LIMIT,
        Period(asked.time(p.FROM), asked.time(p.TO)),
        asked.time(p.AS_OF),
        known_at_from(asked.get(p.KNOWN_AT)),
        asked.choice(p.NEWEST, "false") == "true",
    )
    return await services.readers.run(
        lambda parts: _response(call, wanted, _read(parts, wanted), same)
    )


def _response(call: Call, asked: _Asked, found: _Found, same: str) -> Response:
    following = None if found.rest is None else to_cursor(sorted(found.rest.items()), same)
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
    if places and asked.get(p.NEWEST) == "true":
        raise InvalidValue("after", asked.get(p.AFTER), "none, where the newest are asked for")
    if any(told != topic for told, _ in places):
        raise InvalidValue("after", asked.get(p.AFTER), f"positions of {topic}")
    return {partition: offset + 1 for (_, partition), offset in places.items()}


def _about(asked: p.Asked, topic: Topic, account: str | None) -> tuple[tuple[str, str], ...]:
    told = tuple(
        (name, value) for parameter, name in _ABOUT if (value := asked.id(parameter)) is not None
    )
    looks_through = told or p.NEWEST.name in asked.told
    if looks_through and (account is None or topic != "events"):
        # Looking through the whole log for a few events is no question of one request.
        raise InvalidValue("account", account, "the account whose events are looked through")
    return told


class _Picker:
    """Picks the records of a stream that are about something, or about one that was picked.

    A bust, a reversal or a late fee tells no instrument: it names the fact that it is about. So
    records are to be shown in the stream's order, from its beginning.
    """

    def __init__(self, about: tuple[tuple[str, str], ...], as_of: AsOf, zone_name: str) -> None:
        self._about = about
        self._as_of = as_of
        self._zone_name = zone_name
        self._texts = [msgspec.json.encode(told) for _, told in about]
        only = about[0] if len(about) == 1 else ("", "")
        is_deal = only[0] == "deal_id" and as_of == NOW
        self._facts = {("deal", only[1])} if is_deal else set()

    @property
    def picks_all(self) -> bool:
        """Tell whether every record is picked, whatever was shown before it."""
        return not self._about and self._as_of == NOW

    def picks(self, value: bytes) -> bool:
        """Tell whether a record is picked."""
        if self.picks_all:
            return True
        if not (all(text in value for text in self._texts) or _REFERS(value)):
            return False
        try:
            told = msgspec.json.decode(value, type=Told)
        except msgspec.DecodeError:  # it was set aside: it tells nothing
            return False
        data = told.data
        facts = {
            (kind, name)
            for field, kind in _NAMES.items()
            if isinstance(name := data.get(field), str)
        }
        if (self._has_all(data) and self._had_happened(told)) or not facts.isdisjoint(self._facts):
            self._facts |= facts
            return True
        return False

    def _has_all(self, data: dict[str, Any]) -> bool:
        """Tell whether the data, or one of its legs, has all that is asked for."""
        legs = [
            one
            for name in ("legs", "cash")
            for one in data.get(name) or ()
            if isinstance(one, dict)
        ]
        return any(
            all(one.get(name) == told for name, told in self._about) for one in (data, *legs)
        )

    def _had_happened(self, told: Told) -> bool:
        """Tell whether it had by then."""
        if self._as_of.instant is not None:
            return told.event_time <= self._as_of.instant
        return self._as_of.day is None or told.day(self._zone_name) <= self._as_of.day


def _read(parts: Parts, asked: _Asked) -> _Found:
    log = parts.log
    heads = _ends(parts, asked)
    if asked.account is None:
        return _read_partitions(parts, asked, heads)
    partition = partition_of(asked.account, log.partitions)
    if asked.is_newest:
        return _read_newest(parts, asked, partition, heads[partition])
    offset = asked.offsets.get(partition, 0)
    events: list[bytes] = []
    picker, timely = _pickers(parts, asked)
    is_there = False
    # What is picked may be about what came earlier; else pages read what is on them alone.
    start = offset if picker.picks_all else 0
    for record in parts.streams.read_stream(asked.topic, asked.account, heads[partition], start):
        is_there = True
        is_picked = picker.picks(record.value)
        if record.offset < offset or not (is_picked and _is_timely(timely, record)):
            continue
        if len(events) == asked.limit:
            return _Found(events, {partition: offset}, {partition: offset})
        events.append(event_json(record))
        offset = record.offset + 1
    if not is_there and not asked.offsets:
        raise Problem(UNKNOWN_ACCOUNT, _NOTHING)
    return _Found(events, {partition: heads[partition]}, None)


def _read_newest(parts: Parts, asked: _Asked, partition: int, head: int) -> _Found:
    """Return the last events that are picked, the last one first; `offsets` are where to end."""
    assert asked.account is not None
    end = min(head, asked.offsets.get(partition, head))
    picker, timely = _pickers(parts, asked)
    newest: deque[Record] = deque(maxlen=asked.limit + 1)
    is_there = False
    start = end
    while start > 0 and len(newest) <= asked.limit:
        # Farther back each time, until there are enough.
        start = max(0, end - _AROUND * max(asked.limit, end - start)) if picker.picks_all else 0
        newest.clear()
        for record in parts.streams.read_stream(asked.topic, asked.account, end, start):
            is_there = True
            if picker.picks(record.value) and _is_timely(timely, record):
                newest.append(record)
    if not is_there and not asked.offsets:
        raise Problem(UNKNOWN_ACCOUNT, _NOTHING)
    is_more = len(newest) > asked.limit
    if is_more:
        newest.popleft()
    events = [event_json(record) for record in reversed(newest)]
    return _Found(events, {partition: head}, {partition: newest[0].offset} if is_more else None)


def _pickers(parts: Parts, asked: _Asked) -> tuple[_Picker, Timely]:
    """Return what picks by what events are about, and what picks by their own times.

    Of one account's events it can be told what had happened with what they name.
    """
    is_of_one = asked.account is not None and asked.topic == "events"
    is_dated = asked.period.has_day or asked.as_of.day is not None
    # Of many streams the zones as they are now will do: the others take the whole streams to tell.
    has_past = is_dated and asked.account is not None
    zones = Zones(parts, asked.topic, _known_at(parts, asked) if has_past else None)
    if is_dated:
        zones.learn([asked.account])
    as_of = asked.as_of if is_of_one else NOW
    picker = _Picker(asked.about, as_of, zones.of(asked.account))
    return picker, Timely(zones, asked.period, NOW if is_of_one else asked.as_of)


def _is_timely(timely: Timely, record: Record) -> bool:
    if timely.picks_all:
        return True
    return timely.picks(record, refers=_REFERS(record.value) is not None)


def _known_at(parts: Parts, asked: _Asked) -> KnownAt | None:
    known_at = asked.known_at
    if isinstance(known_at, str):
        return known_at_instant(parts.log, known_at)
    return None if known_at is None else check_reached(parts.log, known_at)


def _ends(parts: Parts, asked: _Asked) -> list[int]:
    """Return by partition the offset at which the log ends, or what is asked for of it."""
    heads, known_at = parts.log.heads(asked.topic), _known_at(parts, asked)
    if known_at is None:
        return heads
    return [known_at.end(asked.topic, number, head) for number, head in enumerate(heads)]


def _read_partitions(parts: Parts, asked: _Asked, heads: list[int]) -> _Found:
    offsets = {number: asked.offsets.get(number, 0) for number in range(len(heads))}
    events: list[bytes] = []
    _, timely = _pickers(parts, asked)
    to_look = _LOOKED_THROUGH
    for partition, head in enumerate(heads):
        while (left := asked.limit - len(events)) > 0 < to_look and offsets[partition] < head:
            # Of all records no more than there is room for; of those of a period few may be picked.
            count = min(head - offsets[partition], left if timely.picks_all else _AT_ONCE)
            records = parts.log.read(asked.topic, partition, offsets[partition], count)
            if not records:
                break
            to_look -= len(records)
            timely.learn_zones(record.key for record in records)
            for record in records:
                if len(events) == asked.limit:
                    break
                offsets[partition] = record.offset + 1
                if _is_timely(timely, record):
                    events.append(event_json(record))
    is_more = any(offsets[number] < head for number, head in enumerate(heads))
    return _Found(events, offsets, offsets if is_more else None)


def _position(topic: Topic, offsets: dict[int, int]) -> str:
    prefix = "" if topic == "events" else f"{topic}/"
    places = [(number, offset - 1) for number, offset in sorted(offsets.items()) if offset > 0]
    return ",".join(f"{prefix}{number}:{offset}" for number, offset in places) or f"{prefix}0:0"
