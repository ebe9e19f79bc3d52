"""JSON Schema (2020-12) of the envelope and of every event, made from the structs."""

from typing import Any, Final

from msgspec import Struct
from msgspec.json import decode, encode, schema

from domain.events import Event
from schemas.envelope import Envelope
from schemas.registry import STRUCTS
from schemas.wire import published_type

JsonSchema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ENVELOPE_SCHEMA: Final = "Envelope.v1"


def event_schema(struct: type[Event], version: int) -> JsonSchema:
    """Return the schema of an event's `data`."""
    return _document(struct, f"{struct.__name__}.v{version}")


def envelope_schema() -> JsonSchema:
    """Return the schema of the envelope; its `data` is described by its type's own schema."""
    return _document(Envelope, ENVELOPE_SCHEMA)


def all_schemas() -> dict[str, JsonSchema]:
    """Return every schema that is published, by name: `DealRecorded.v1`."""
    schemas = {
        f"{name}.v{version}": event_schema(struct, version)
        for (name, version), struct in STRUCTS.items()
    }
    return {ENVELOPE_SCHEMA: envelope_schema()} | schemas


def _document(struct: type[Struct], name: str) -> JsonSchema:
    made = {"$schema": DIALECT, "$id": f"urn:daybook:{name}"} | schema(published_type(struct))
    plain: JsonSchema = decode(encode(made))
    return plain
