"""Reads that are fixed in advance, and answered by nothing yet: they are guarded as all others."""

from typing import Final, Literal

from starlette.responses import Response

from api.http.operation import Call, Operation
from api.http.problems import NOT_YET, Problem

_LATER: Final[dict[Literal["account", "portfolio"], tuple[str, ...]]] = {
    "account": ("pnl", "returns", "risk"),
    "portfolio": ("pnl", "returns", "risk", "attribution"),
}


def operations() -> list[Operation]:
    """Return the operations, which are no part of the document until they have an answer."""
    return [
        Operation(
            name=f"read_{owner}_{name}",
            method="GET",
            path=f"/v1/{owner}s/{{{owner}}}/{name}",
            summary=f"{name}, which cannot be asked for yet",
            scope="read",
            owner=owner,
            answer=_answer,
            replies={},
        )
        for owner, names in _LATER.items()
        for name in names
    ]


async def _answer(call: Call) -> Response:
    name = call.operation.path.rpartition("/")[2]
    raise Problem(NOT_YET, f"{name} cannot be asked for yet")
