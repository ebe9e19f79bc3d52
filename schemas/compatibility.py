"""Whether a changed JSON Schema still takes everything that was written under the old one.

A log is never rewritten, so a published schema may only grow: a new optional field, a further
value of an enumeration. Anything else is a new version with an upcaster. Readers are upgraded
before writers: an older one halts at a field that it does not know.
"""

from typing import Any, Final

from schemas.json_schema import JsonSchema

_ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", "$defs", "title", "description", "examples", "$comment"}
)
_WALKED: Final = frozenset(
    {"type", "enum", "anyOf", "properties", "required", "additionalProperties", "items", "default"}
)
_ABSENT: Final = object()


def breaking_changes(old: JsonSchema, new: JsonSchema) -> list[str]:
    """Return, a line each, what of the old schema the new one does not take; none if compatible.

    A change that this does not understand counts as breaking.
    """
    return _Comparison(old, new).changes("$", old, new)


class _Comparison:
    """Two documents, for their `$ref`s to be looked up in."""

    def __init__(self, old: JsonSchema, new: JsonSchema) -> None:
        self._old = old
        self._new = new
        self._under_way: set[tuple[str, str]] = set()

    def changes(self, path: str, old: Any, new: Any) -> list[str]:
        """Return what breaks at one place of the documents and below it."""
        refs = (_ref(old), _ref(new))
        if all(refs):
            if refs in self._under_way:
                return []
            self._under_way.add(refs)
            found = self._compare(path, _resolve(old, self._old), _resolve(new, self._new))
            self._under_way.discard(refs)
            return found
        return self._compare(path, _resolve(old, self._old), _resolve(new, self._new))

    def _compare(self, path: str, old: Any, new: Any) -> list[str]:
        if new is True or new == {}:
            return []
        if not isinstance(old, dict) or not isinstance(new, dict):
            return [] if old == new else [f"{path}: takes {new!r} where it took {old!r}"]
        found = self._defaults(path, old, new)
        if "anyOf" in old or "anyOf" in new:
            return found + self._alternatives(path, old, new)
        found += _types(path, old, new) + _values(path, old, new) + _limits(path, old, new)
        found += self._properties(path, old, new)
        if old.get("type") == "object":
            found += self._extras(path, old, new)
        if "items" in old and "items" in new:
            found += self.changes(f"{path}[]", old["items"], new["items"])
        return found

    def _alternatives(self, path: str, old: JsonSchema, new: JsonSchema) -> list[str]:
        found: list[str] = []
        choices = new.get("anyOf", [new])
        for alternative in old.get("anyOf", [old]):
            attempts = [self.changes(path, alternative, choice) for choice in choices]
            if all(attempts):
                nearest: list[str] = min(attempts, key=_distance)
                found += nearest
        return found

    def _defaults(self, path: str, old: JsonSchema, new: JsonSchema) -> list[str]:
        before, after = old.get("default", _ABSENT), new.get("default", _ABSENT)
        if before is _ABSENT or before == after:
            return []
        told = "none" if after is _ABSENT else repr(after)
        return [f"{path}: the default was {before!r} and is {told}, so absence means another thing"]

    def _properties(self, path: str, old: JsonSchema, new: JsonSchema) -> list[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        found = [f"{path}.{name}: removed" for name in before if name not in after]
        found += [
            f"{path}.{name}: required, and was not"
            for name in new.get("required", [])
            if name not in old.get("required", [])
        ]
        for name in before:
            if name in after:
                found += self.changes(f"{path}.{name}", before[name], after[name])
        return found

    def _extras(self, path: str, old: JsonSchema, new: JsonSchema) -> list[str]:
        before, after = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if before is False or after is True:
            return []
        if after is False:
            return [f"{path}: further fields are refused, and were not"]
        return self.changes(f"{path}.*", before, after)


def _ref(schema: Any) -> str:
    return str(schema["$ref"]) if isinstance(schema, dict) and "$ref" in schema else ""


def _resolve(schema: Any, document: JsonSchema) -> Any:
    """Return what a `$ref` points at, with the keywords that stand beside it."""
    while ref := _ref(schema):
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = document["$defs"][ref.removeprefix("#/$defs/")] | beside
        if ref == _ref(schema):
            break
    return schema


def _types(path: str, old: JsonSchema, new: JsonSchema) -> list[str]:
    before, after = _type_set(old), _type_set(new)
    if not after or (before and before <= after):
        return []
    return [f"{path}: takes {_listed(after)} where it took {_listed(before) or 'anything'}"]


def _type_set(schema: JsonSchema) -> set[str]:
    told = schema.get("type", [])
    if not told and "enum" in schema:
        return {"string" if isinstance(value, str) else "other" for value in schema["enum"]}
    types = {told} if isinstance(told, str) else set(told)
    return types | {"integer"} if "number" in types else types


def _listed(types: set[str]) -> str:
    return " or ".join(sorted(types))


def _values(path: str, old: JsonSchema, new: JsonSchema) -> list[str]:
    if "enum" not in new:
        return []
    if "enum" not in old:
        return [f"{path}: only {new['enum']} are taken, and any were"]
    return [
        f"{path}: {value!r} is no longer taken" for value in old["enum"] if value not in new["enum"]
    ]


def _limits(path: str, old: JsonSchema, new: JsonSchema) -> list[str]:
    """Compare the other keywords: one that is new or has changed may take less."""
    return [
        f"{path}: {keyword} was {old.get(keyword, 'absent')!r} and is {value!r}"
        for keyword, value in new.items()
        if keyword not in _ANNOTATIONS | _WALKED and old.get(keyword, _ABSENT) != value
    ]


def _distance(changes: list[str]) -> int:
    """Rank attempts to match an alternative: the nearest is the one to tell a person about."""
    return len(changes) + 100 * any(" where it took " in change for change in changes)
