"""Write the JSON Schemas and the event catalogue: `python -m schemas.publish`.

A change that a published schema does not allow is refused, and nothing is written: it needs a new
version of the type, and an upcaster for the old one.
"""

import sys
from pathlib import Path
from typing import Final

import msgspec

from schemas.catalogue import catalogue
from schemas.compatibility import breaking_changes
from schemas.json_schema import JsonSchema, all_schemas

PUBLISHED: Final = Path(__file__).parent / "published"
EXAMPLES: Final = Path(__file__).parent / "examples"
CATALOGUE: Final = Path(__file__).parents[1] / "docs" / "reference" / "events.md"


def rendered(schema: JsonSchema) -> bytes:
    """Return a schema as the text that is checked in."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


def published(folder: Path = PUBLISHED) -> dict[str, JsonSchema]:
    """Return the schemas that were published, by name."""
    return {path.stem: msgspec.json.decode(path.read_bytes()) for path in folder.glob("*.json")}


def refusals(old: dict[str, JsonSchema], new: dict[str, JsonSchema]) -> list[str]:
    """Return what of the schemas published before the new ones would break.

    The schema of an older version stays as it was published, for as long as its type is written
    in a newer one.
    """
    found = []
    for name, before in sorted(old.items()):
        if name in new:
            found += [f"{name}: {change}" for change in breaking_changes(before, new[name])]
        elif not _superseded(name, new):
            found.append(f"{name}: removed")
    return found


def _superseded(name: str, new: dict[str, JsonSchema]) -> bool:
    event_type, _, version = name.rpartition(".v")
    return any(
        other.rpartition(".v")[0] == event_type and int(other.rpartition(".v")[2]) > int(version)
        for other in new
    )


def main() -> int:
    """Write what is generated, or say why not. Returns the exit status."""
    schemas = all_schemas()
    refused = refusals(published(), schemas)
    if refused:
        sys.stderr.write("not published, records already written would not be readable:\n")
        sys.stderr.writelines(f"  {line}\n" for line in refused)
        return 1
    PUBLISHED.mkdir(exist_ok=True)
    for name, schema in schemas.items():
        (PUBLISHED / f"{name}.json").write_bytes(rendered(schema))
    CATALOGUE.parent.mkdir(parents=True, exist_ok=True)
    CATALOGUE.write_text(catalogue(), encoding="utf-8")
    sys.stderr.write(f"{len(schemas)} schemas in {PUBLISHED}, the catalogue in {CATALOGUE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
