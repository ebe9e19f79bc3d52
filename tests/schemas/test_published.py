"""What is published - schemas, examples, the catalogue - is what the structs say, for ever."""

import copy
from typing import Any

import msgspec
import pytest

from schemas.catalogue import catalogue
from schemas.codec import CURRENT_VERSIONS, STRUCTS, decode, encode, encode_event, record_hash
from schemas.compatibility import breaking_changes
from schemas.envelope import Envelope, Record
from schemas.json_schema import ENVELOPE_SCHEMA, JsonSchema, all_schemas, event_schema
from schemas.publish import CATALOGUE, EXAMPLES, PUBLISHED, published, refusals, rendered
from schemas.registry import EVENT_STRUCTS
from schemas.wire import published_type
from tests.schemas.samples import DIGESTS, SAMPLES

EXAMPLE_FILES = sorted(EXAMPLES.glob("*.json"))


@pytest.mark.parametrize("name", all_schemas())
def test_a_published_schema_is_what_its_struct_says(name: str) -> None:
    assert (PUBLISHED / f"{name}.json").read_bytes() == rendered(all_schemas()[name])


def test_no_published_schema_is_broken() -> None:
    assert refusals(published(), all_schemas()) == []


def test_the_catalogue_is_what_the_structs_say() -> None:
    assert CATALOGUE.read_text(encoding="utf-8") == catalogue()
    assert all(f"### {name} (version " in catalogue() for name in EVENT_STRUCTS)


def test_every_event_type_and_version_has_an_example() -> None:
    assert {path.stem for path in EXAMPLE_FILES} >= {
        f"{name}.v{version}" for name, version in CURRENT_VERSIONS.items()
    }
    assert set(SAMPLES) == set(EVENT_STRUCTS)


@pytest.mark.parametrize("path", EXAMPLE_FILES, ids=lambda path: path.stem)
def test_an_example_decodes_and_is_written_as_it_stands(path: Any) -> None:
    value = path.read_bytes()
    digests = {name: digest for digest, name in map(str.split, DIGESTS.read_text().splitlines())}
    assert record_hash(value) == digests[path.name]
    recorded = decode(Record("events", 0, 0, None, value))
    assert f"{recorded.envelope.type}.v{recorded.envelope.version}" == path.stem
    assert encode(recorded.envelope) == value
    assert recorded.hash == digests[path.name]
    if (recorded.envelope.type, recorded.envelope.version) in STRUCTS:
        assert encode_event(recorded.event) == recorded.envelope.data
    assert recorded.event == SAMPLES[recorded.envelope.type][1]


@pytest.mark.parametrize("path", EXAMPLE_FILES, ids=lambda path: path.stem)
def test_an_example_has_the_published_form(path: Any) -> None:
    envelope = msgspec.json.decode(path.read_bytes(), type=published_type(Envelope))
    name, version = envelope.type, envelope.version  # type: ignore[attr-defined]
    told = envelope.data  # type: ignore[attr-defined]
    assert msgspec.convert(told, published_type(STRUCTS[name, version])) is not None


@pytest.mark.parametrize("path", EXAMPLE_FILES, ids=lambda path: path.stem)
def test_an_example_validates_against_the_published_schemas(path: Any) -> None:
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema is not installed: the schemas are checked by msgspec only"
    )
    schemas = published()
    value = msgspec.json.decode(path.read_bytes())
    for name, told in ((ENVELOPE_SCHEMA, value), (path.stem, value["data"])):
        jsonschema.Draft202012Validator.check_schema(schemas[name])
        jsonschema.Draft202012Validator(schemas[name]).validate(told)


# --- compatibility -------------------------------------------------------------------------------


def deal_schema() -> JsonSchema:
    return event_schema(EVENT_STRUCTS["DealRecorded"], 1)


def fields_of(schema: JsonSchema, struct: str = "DealRecorded") -> dict[str, Any]:
    properties: dict[str, Any] = schema["$defs"][struct]["properties"]
    return properties


def changed(change: Any) -> list[str]:
    new = copy.deepcopy(deal_schema())
    change(new)
    return breaking_changes(deal_schema(), new)


def test_nothing_changed_breaks_nothing() -> None:
    assert changed(lambda schema: None) == []


def test_a_schema_may_grow() -> None:
    def grow(schema: JsonSchema) -> None:
        told = fields_of(schema)
        told["desk"] = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
        told["side"]["enum"].append("cross")
        told["sequence"]["type"] = "number"
        told["venue"]["anyOf"].append({"type": "integer"})
        told["price"]["anyOf"][0].pop("pattern")
        told["deal_id"]["description"] = "another text"
        schema["$defs"]["DealRecorded"]["required"].remove("currency")

    assert changed(grow) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: fields_of(s).pop("venue"), "$.venue: removed"),
        (lambda s: fields_of(s, "Fee").pop("kind"), "$.fees[].kind: removed"),
        (
            lambda s: s["$defs"]["DealRecorded"]["required"].append("price"),
            "$.price: required, and was not",
        ),
        (
            lambda s: fields_of(s)["side"]["enum"].remove("sell"),
            "$.side: 'sell' is no longer taken",
        ),
        (
            lambda s: fields_of(s)["deal_id"].update(type="integer"),
            "$.deal_id: takes integer where it took string",
        ),
        (
            lambda s: fields_of(s)["deal_id"].update(enum=["a"]),
            "$.deal_id: only ['a'] are taken, and any were",
        ),
        (
            lambda s: fields_of(s)["deal_id"].update(maxLength=8),
            "$.deal_id: maxLength was 'absent' and is 8",
        ),
        (
            lambda s: fields_of(s)["quantity"].update(pattern="^1$"),
            "$.quantity: pattern was '^-?(0|[1-9][0-9]*)(\\\\.[0-9]+)?$' and is '^1$'",
        ),
        (
            lambda s: fields_of(s)["venue"]["anyOf"].pop(),
            "$.venue: takes string where it took null",
        ),
        (
            lambda s: fields_of(s)["time_precision"].update(default="day"),
            "$.time_precision: the default was 'nano' and is 'day'",
        ),
        (
            lambda s: fields_of(s)["ids"]["additionalProperties"].update(type="integer"),
            "$.ids.*: takes integer where it took string",
        ),
        (
            lambda s: fields_of(s)["ids"].update(additionalProperties=False),
            "$.ids: further fields are refused, and were not",
        ),
        (
            lambda s: fields_of(s, "Terms")["kind"]["enum"].remove("fx"),
            "$.terms.kind: 'fx' is no longer taken",
        ),
        (
            lambda s: fields_of(s)["tags"].update(items={"type": "integer"}),
            "$.tags[]: takes integer where it took string",
        ),
        (
            lambda s: fields_of(s)["tags"].update(uniqueItems=True),
            "$.tags: uniqueItems was 'absent' and is True",
        ),
    ],
)
def test_a_schema_may_not_take_less(change: Any, said: str) -> None:
    found = changed(change)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_type_is_removed_only_for_a_newer_version_of_it() -> None:
    old = {"X.v1": deal_schema(), "Y.v1": deal_schema()}
    new = {"X.v2": {"type": "object"}}
    assert refusals(old, new) == ["Y.v1: removed"]
    assert refusals({"X.v2": deal_schema()}, {"X.v1": deal_schema()}) == ["X.v2: removed"]


def test_a_recursive_schema_is_compared_to_its_end() -> None:
    def tree(leaf: str) -> JsonSchema:
        node = {
            "type": "object",
            "properties": {"leaf": {"type": leaf}, "next": {"$ref": "#/$defs/Node"}},
        }
        return {"$ref": "#/$defs/Node", "$defs": {"Node": node}}

    assert breaking_changes(tree("string"), tree("string")) == []
    assert breaking_changes(tree("string"), tree("integer")) == [
        "$.leaf: takes integer where it took string"
    ]
