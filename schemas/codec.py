"""Events to bytes and back, exactly.

What is read must be what was written, to the last digit and with nothing left out, or the record
is undecodable. A field that a version does not know means a newer writer; a number where a decimal
string belongs has lost its exactness on the way; a name that stands twice means one thing to one
parser and another to the next: all are refused, as compliance would have them. The check costs one
more encoding: what decodes is encoded again, and the same bytes prove that nothing was lost. Bytes
that differ are looked at field by field, and pass if they say the same (a default told, blanks,
another order). What text means - whether an id, a currency, a time or a date is a good one - is
for the edges to check before anything is recorded.

Decimals are written in plain notation with the scale they have: never an exponent, NaN or infinity.
"""

import hashlib
import json
import re
from decimal import Decimal
from typing import Any, Final, cast

from msgspec import Raw, Struct, to_builtins
from msgspec.json import Decoder, Encoder

from domain.errors import InvalidValue, shorten
from domain.events import Event
from domain.money import EXACT, to_plain
from schemas.envelope import Envelope, Record, Recorded
from schemas.registry import CURRENT_VERSIONS, STRUCTS, event_type
from schemas.upcasting import UPCASTERS, NotUpcast, Upcasters, upcast
from schemas.wire import strict_type

__all__ = [
    "CURRENT_VERSIONS",
    "STRUCTS",
    "Undecodable",
    "decode",
    "encode",
    "encode_event",
    "encode_finite",
    "envelope",
    "event_of",
    "event_type",
    "record_hash",
]

_ENCODER: Final = Encoder()
_ENVELOPES: Final = Decoder(Envelope)
_EVENTS: Final[dict[tuple[str, int], Decoder[Event]]] = {
    known: Decoder(struct) for known, struct in STRUCTS.items()
}
_EXPONENT: Final = re.compile(rb"E(?=[-+])").search
_NAN: Final = re.compile(rb"N(?=aN)").search
_INFINITY: Final = re.compile(rb"I(?=nfinity)").search
"""One literal byte each, so that the search is a memchr: thrice as quick as `in` with several."""
_MALFORMED: Final = (ValueError, RecursionError)
"""What decoders raise: msgspec's and json's errors, bad UTF-8, integers without end, deep nests."""


class Undecodable(Exception):  # noqa: N818 - a record that is, not an error that happens
    """Say why a record's value cannot be read, and where in it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def record_hash(value: bytes) -> str:
    """Return the SHA-256 of a record's value, 64 characters of hex."""
    return hashlib.sha256(value).hexdigest()


def encode(envelope: Envelope) -> bytes:
    """Return the value of a record: the envelope as JSON, fields in their order."""
    return _ENCODER.encode(envelope)


def encode_event(event: Event) -> Raw:
    """Return an event as the `data` of its envelope.

    Raises InvalidValue for a number that is not finite or has no end of zeros.
    """
    return Raw(_encode_data(event))


def encode_finite(event: Event) -> Raw:
    """Return an event as `encode_event` does, all of whose numbers are known to be finite."""
    data = _ENCODER.encode(event)
    return encode_event(event) if b"E" in data and _EXPONENT(data) else Raw(data)


def envelope(value: bytes) -> Envelope:
    """Return the envelope that a record's value holds, its data still JSON; raises Undecodable."""
    try:
        parsed = _ENVELOPES.decode(value)
    except _MALFORMED as error:
        raise Undecodable(f"envelope: {_reason(error)}") from None
    again = _ENCODER.encode(parsed)
    if again != value:
        _compare("envelope", value, again, Envelope)
    return parsed


def decode(record: Record, upcasters: Upcasters = UPCASTERS) -> Recorded:
    """Return a record with its envelope and event decoded; raises Undecodable.

    Whether the record is valid is for `schemas.validity` to say.
    """
    value = record.value
    parsed = envelope(value)
    return Recorded(
        record.topic,
        record.partition,
        record.offset,
        record_hash(value),
        parsed,
        event_of(parsed, upcasters),
    )


def event_of(envelope: Envelope, upcasters: Upcasters = UPCASTERS) -> Event:
    """Return the event in an envelope, in its type's current version; raises Undecodable."""
    decoder = _EVENTS.get((envelope.type, envelope.version))
    data = bytes(envelope.data)
    if decoder is None:
        data = _upcast(envelope, upcasters)
        decoder = _EVENTS[envelope.type, CURRENT_VERSIONS[envelope.type]]
    try:
        event = decoder.decode(data)
        again = _encode_data(event)
    except _MALFORMED as error:
        raise Undecodable(f"{_where(envelope)}: {_reason(error)}") from None
    if again != data:
        _compare(_where(envelope), data, again, type(event))
    return event


def _upcast(envelope: Envelope, upcasters: Upcasters) -> bytes:
    current = CURRENT_VERSIONS.get(envelope.type)
    if current is None:
        raise Undecodable(f"type: {shorten(envelope.type)!r} is not an event type known here")
    try:
        told = json.loads(bytes(envelope.data), object_pairs_hook=_once)
    except _MALFORMED as error:
        raise Undecodable(f"{_where(envelope)}: {_reason(error)}") from None
    try:
        data = upcast(envelope.type, envelope.version, told, current=current, upcasters=upcasters)
    except NotUpcast as error:
        raise Undecodable(f"version: {error}") from None
    return _ENCODER.encode(data)


def _where(envelope: Envelope) -> str:
    return f"data of {envelope.type} version {envelope.version}"


def _reason(error: Exception) -> str:
    return shorten(str(error), 300)


def _compare(where: str, told: bytes, again: bytes, struct: type[Struct]) -> None:
    """Raise Undecodable unless two texts say the same, field by field."""
    mirror = strict_type(struct)
    try:
        said = Decoder(mirror).decode(told)
        json.loads(told, object_pairs_hook=_once)
    except _MALFORMED as error:
        raise Undecodable(f"{where}: {_reason(error)}") from None
    kept = Decoder(mirror).decode(again)
    for name in mirror.__struct_fields__:
        before, after = getattr(said, name), getattr(kept, name)
        if before != after:
            raise Undecodable(
                f"{where}: {shorten(before)!r} is not written as the ledger writes it,"
                f" {shorten(after)!r} - at `$.{name}`"
            )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {shorten(twice)!r} stands more than once in an object")
    return members


def _encode_data(event: Event) -> bytes:
    data = _ENCODER.encode(event)
    # Looking for what str(Decimal) may write beside digits is far quicker than looking at each
    # number. A text that merely looks like it costs time and changes nothing.
    if (
        (b"E" in data and _EXPONENT(data))
        or (b"N" in data and _NAN(data))
        or (b"I" in data and _INFINITY(data))
    ):
        return _ENCODER.encode(_plain(to_builtins(event, builtin_types=(Decimal,)), ""))
    return data


def _plain(value: Any, path: str) -> Any:
    match value:
        case Decimal():
            _, _, exponent = value.as_tuple()
            if not isinstance(exponent, int) or abs(exponent) > EXACT.prec:
                raise InvalidValue(path, value, "a finite decimal number")
            return to_plain(value)
        case dict():
            members = cast("dict[str, Any]", value)
            return {name: _plain(part, f"{path}.{name}") for name, part in members.items()}
        case list() | tuple():
            return [_plain(part, f"{path}[{at}]") for at, part in enumerate(value)]
        case _:
            return value
