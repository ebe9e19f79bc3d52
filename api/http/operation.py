"""What the API can be asked: one operation is one line of a table, from which all else follows.

Routes, the OpenAPI document, what a principal needs and the tests of who may do what are made
from the same table, so that none of them can forget an operation.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from api.http.security import Need, Principal

if TYPE_CHECKING:
    from api.http.services import Services

Method = Literal["GET", "POST"]


class Parameter(Struct, frozen=True):
    """A parameter of the query: its JSON Schema and an example."""

    name: str
    description: str
    schema: dict[str, Any]
    example: str


class Body(Struct, frozen=True):
    """A JSON body: its JSON Schema, an example, and how large it may be."""

    schema: dict[str, Any]
    example: Any
    most_bytes: int


class Reply(Struct, frozen=True):
    """A good answer: its JSON Schema and an example; `is_table` in every format of tables."""

    description: str
    schema: dict[str, Any]
    example: Any
    is_table: bool = False
    media_type: str = "application/json"


class Call(Struct):
    """One request that was let in."""

    operation: "Operation"
    request: Request
    services: "Services"
    principal: Principal

    def path(self, name: str) -> str:
        """Return a part of the path."""
        value: str = self.request.path_params[name]
        return value


class Operation(Struct, frozen=True, kw_only=True):
    """An operation of the API.

    `scope` is what its principal needs; None is for what anybody may ask. `owner` says what of the
    path must be the principal's own. `replies` are the good answers by status.
    """

    name: str
    method: Method
    path: str
    summary: str
    scope: Need | None
    answer: Callable[[Call], Awaitable[Response]]
    replies: dict[int, Reply]
    owner: Literal["account", "portfolio"] | None = None
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    problems: tuple[str, ...] = ()
    description: str = ""
