"""The AsyncAPI 3 document of the feed, made from the structs that it reads and writes."""

from functools import cache
from typing import Any, Final

import msgspec

from api.http.feed import frames
from api.http.feed.access import TOPICS
from api.http.problems import UNKNOWN_ACCOUNT

_CLIENT: Final = (frames.Subscribe, frames.Unsubscribe, frames.Authenticate)
_SERVER: Final = (frames.Snapshot, frames.Delta, frames.ErrorFrame, frames.Heartbeat)
_REF: Final = "#/components/schemas/{name}"
_EXAMPLES: Final[dict[str, Any]] = {
    "Subscribe": {"op": "subscribe", "id": 1, "topic": "positions", "account": "A1"},
    "Unsubscribe": {"op": "unsubscribe", "id": 1},
    "Authenticate": {"op": "authenticate", "token": "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"},
    "ErrorFrame": {
        "op": "error",
        "id": 1,
        "problem": msgspec.to_builtins(
            frames.problem(UNKNOWN_ACCOUNT, "no account 'A1' that this token may read")
        ),
    },
    "Heartbeat": {"op": "heartbeat", "position": "3:1042"},
    "Snapshot": {"op": "snapshot", "id": 1, "position": "5f0c2b7a9d31.3:1043", "rows": []},
    "Delta": {
        "op": "delta",
        "id": 1,
        "previous": "5f0c2b7a9d31.3:1043",
        "position": "5f0c2b7a9d31.3:1044",
        "rows": [],
        "removed": [],
    },
}
_BEARER: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "`Authorization: Bearer TOKEN`, as for every request.",
}
_OFFERED: Final = {
    "type": "httpApiKey",
    "in": "header",
    "name": "Sec-WebSocket-Protocol",
    "description": "For browsers, which cannot set other headers: `daybook.v1, bearer.TOKEN`.",
}
_SCHEMES: Final = {"bearer": _BEARER, "subprotocol": _OFFERED}
_BINDING: Final = {
    "method": "GET",
    "headers": {
        "type": "object",
        "properties": {
            "Authorization": {"type": "string", "description": _BEARER["description"]},
            "Sec-WebSocket-Protocol": {"type": "string", "description": _OFFERED["description"]},
        },
    },
}


@cache
def document_json() -> bytes:
    """Return the document as JSON."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """Return the document."""
    _, schemas = msgspec.json.schema_components((*_CLIENT, *_SERVER), ref_template=_REF)
    schemas["Subscribe"]["properties"]["topic"]["enum"] = list(TOPICS)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:daybook:feed",
        "info": {
            "title": "Daybook feed",
            "version": "1.0.0",
            "description": "Rows as they are, and then each change of them, without a gap.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:8000",
                "protocol": "ws",
                "description": "What `daybook serve` starts. Without keys it takes no token.",
            },
            "guarded": {
                "host": "{host}",
                "protocol": "wss",
                "description": "A server with keys, behind a proxy that has TLS.",
                "variables": {"host": {"description": "A name that the server goes by."}},
                "security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in _SCHEMES],
            },
        },
        "channels": {
            "feed": {
                "address": "/v1/feed",
                "bindings": {"ws": _BINDING},
                "messages": {
                    one.__name__: {"$ref": f"#/components/messages/{one.__name__}"}
                    for one in (*_CLIENT, *_SERVER)
                },
            }
        },
        "operations": {
            "ask": _operation("receive", _CLIENT),
            "tell": _operation("send", _SERVER),
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": _SCHEMES,
            "messages": {one.__name__: _message(one) for one in (*_CLIENT, *_SERVER)},
        },
    }


def _operation(action: str, told: tuple[type, ...]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/feed"},
        "messages": [{"$ref": f"#/channels/feed/messages/{one.__name__}"} for one in told],
    }


def _message(told: type) -> dict[str, Any]:
    name = told.__name__
    summary = (told.__doc__ or "").strip().partition("\n")[0]
    message: dict[str, Any] = {
        "name": name,
        "summary": summary,
        "payload": {"$ref": _REF.format(name=name)},
    }
    if name in _EXAMPLES:
        message["examples"] = [{"name": name, "payload": _EXAMPLES[name]}]
    return message
