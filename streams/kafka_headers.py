"""The headers of a record in Kafka: CloudEvents 1.0, Kafka protocol binding, binary mode.

They repeat what the value says, for tools that route by headers. They are not hashed, and no reader
decides anything by them.
Source: CloudEvents 1.0.2, kafka-protocol-binding.md, and its extension `recordedtime`.
"""

from typing import Final

import msgspec
from msgspec import Struct

from domain.times import from_ns

RECORDED_TIME: Final = "ce_recordedtime"

_SPEC: Final = ("ce_specversion", b"1.0")
_JSON: Final = ("content-type", b"application/json")

Header = tuple[str, bytes]


class _Told(Struct, frozen=True, gc=False):
    id: str
    type: str
    event_time: str


_DECODER: Final = msgspec.json.Decoder(_Told)


def headers(value: bytes, source: bytes, recorded_ns: int) -> list[Header]:
    """Return the headers of a record; one that is no envelope has its recorded time alone."""
    recorded: Header = (RECORDED_TIME, from_ns(recorded_ns).encode())
    try:
        told = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [recorded]
    return [
        _SPEC,
        ("ce_id", told.id.encode()),
        ("ce_type", told.type.encode()),
        ("ce_source", source),
        ("ce_time", told.event_time.encode()),
        recorded,
        _JSON,
    ]
