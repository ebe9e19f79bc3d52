"""The OpenAPI document: made from the table of operations, with an example of each."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi.openapi.utils import get_openapi

from api.http import problems
from api.http.operation import Operation, Reply
from api.read_models import ReadModel
from api.tables import MEDIA_TYPES

Schema = dict[str, Any]
_BINARY: Final[Schema] = {"type": "string", "format": "binary"}
_KINDS: Final[dict[str, Schema]] = {
    "text": {"type": ["string", "null"]},
    "decimal": {"type": ["string", "null"], "pattern": r"^-?[0-9]+(\.[0-9]+)?$"},
    "time": {"type": ["string", "null"], "format": "date-time"},
    "integer": {"type": ["integer", "null"]},
    "json": {"type": ["object", "array", "null"]},
}
_EXAMPLES: Final[dict[str, Any]] = {
    "text": "text",
    "decimal": "100.50",
    "time": "2024-01-02T14:30:00Z",
    "integer": 1,
    "json": [],
}
_NAMED: Final[dict[str, Any]] = {
    "account": "A1",
    "instrument": "AAPL",
    "currency": "USD",
    "side": "buy",
    "order_id": "O1",
    "deal_id": "D1",
    "portfolio": "desk",
    "ids": {},
    "trade_date": "2024-01-02",
    "settlement_date": "2024-01-04",
    "booked_date": "2024-01-02",
}
_PROBLEM: Final[Schema] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [kind.type for kind in problems.KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
        "value": {"type": "string"},
        "expected": {"type": "string"},
    },
}
_HEADERS: Final[Schema] = {
    "Daybook-Position": {
        "description": "The positions that the answer is from, or that the write was given.",
        "schema": {"type": "string"},
    },
    "X-Request-Id": {"description": "Names this request in logs.", "schema": {"type": "string"}},
}
_DESCRIPTION: Final = """
A trading ledger: immutable events, and read models that are folded from them.

Writes take `Idempotency-Key`, which is the id of the command: sent again with the same content the
first answer comes again, marked `Idempotency-Replayed: true`. They answer with `Daybook-Position`;
a read that is given it as `min_position` waits until it sees that write. Amounts are strings of
plain decimals, times RFC 3339 in UTC. Errors are RFC 9457 problems, each with a stable `type`.
"""


def page_reply(model: ReadModel) -> Reply:
    """Return what a page of a read model looks like."""
    row = {
        "type": "object",
        "required": [name for name, _ in model.columns],
        "properties": {name: _KINDS[kind] for name, kind in model.columns},
        "additionalProperties": False,
    }
    example = {name: _NAMED.get(name, _EXAMPLES[kind]) for name, kind in model.columns}
    return Reply("Rows in the order of their key.", page_schema(row), _page(example), is_table=True)


def page_schema(row: Schema) -> Schema:
    """Return the schema of a page of rows."""
    return {
        "type": "object",
        "required": ["data", "next", "position"],
        "properties": {
            "data": {"type": "array", "items": row},
            "next": {"type": ["string", "null"], "description": "The cursor of the next page."},
            "position": {"type": "string"},
        },
        "additionalProperties": False,
    }


def _page(example: Any) -> Schema:
    return {"data": [example], "next": None, "position": "3:12"}


def told(operation: Operation) -> Schema:
    """Return what the document says of an operation beside its path."""
    made: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": operation.description or operation.summary + ".",
        "tags": [operation.path.split("/")[-1] if operation.method == "GET" else "writes"],
        "parameters": [*_path_parameters(operation), *_query_parameters(operation)],
        "responses": _responses(operation),
    }
    if operation.scope is None:
        made["security"] = []
    if operation.body is not None:
        made["parameters"].append(_IDEMPOTENCY_KEY)
        content = {"schema": operation.body.schema, "example": operation.body.example}
        made["requestBody"] = {"required": True, "content": {"application/json": content}}
    return made


_IDEMPOTENCY_KEY: Final[Schema] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The command's id, of any script: its bytes are UTF-8. Sent again with the same"
    " content, it is done once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "example": "0190b5c0-0000-7000-8000-000000000004",
}


def _path_parameters(operation: Operation) -> list[Schema]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    schema = {"type": "string", "minLength": 1, "maxLength": 128}
    return [
        {"name": name, "in": "path", "required": True, "schema": schema, "example": "A1"}
        for name in names
    ]


def _query_parameters(operation: Operation) -> list[Schema]:
    return [
        {
            "name": one.name,
            "in": "query",
            "required": False,
            "description": one.description,
            "schema": one.schema,
            **({"example": one.example} if one.example else {}),
        }
        for one in operation.parameters
    ]


def _responses(operation: Operation) -> Schema:
    made: Schema = {}
    for status, reply in operation.replies.items():
        content: Schema = {reply.media_type: {"schema": reply.schema, "example": reply.example}}
        if reply.is_table:
            others = (one.partition(";")[0] for name, one in MEDIA_TYPES.items() if name != "json")
            content |= {media_type: {"schema": _BINARY} for media_type in others}
        about = {"description": reply.description, "headers": _HEADERS}
        made[str(status)] = {**about, "content": content}
    if any(reply.is_table for reply in operation.replies.values()):
        made["304"] = {"description": "What you have (`If-None-Match`) is current."}
    made["default"] = {
        "description": "A problem.",
        "content": {
            problems.MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": problems.Problem(
                    problems.UNKNOWN_ACCOUNT, "there is no such account, or it is not yours"
                ).document(),
            }
        },
    }
    return made


def document(operations: Sequence[Operation], version: str) -> Schema:
    """Return the whole document."""
    made = get_openapi(title="Daybook", version=version, description=_DESCRIPTION, routes=[])
    paths: Schema = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = told(operation)
    made["paths"] = paths
    made["components"] = {
        "schemas": {"Problem": _PROBLEM},
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        },
    }
    made["security"] = [{"token": []}, {}]
    return made
