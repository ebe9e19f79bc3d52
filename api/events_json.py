"""Events as JSON: envelope and data as stored, plus position and hash."""

import msgspec

from schemas.codec import record_hash
from schemas.envelope import Record


def event_json(record: Record) -> bytes:
    """Return a record as a JSON object; of one that is no object, its bytes in base64."""
    place = f"{record.partition}:{record.offset}"
    position = place if record.topic == "events" else f"{record.topic}/{place}"
    told = f'"position":"{position}","hash":"{record_hash(record.value)}"}}'.encode()
    value = record.value.strip()
    if not _is_object(value):
        value = msgspec.json.encode({"undecodable": record.value})
    return value[:-1] + b"," + told


def _is_object(value: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(value, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
