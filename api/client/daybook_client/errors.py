"""What can go wrong: problem documents (RFC 9457) as exceptions, and gaps in feeds."""

# ruff: noqa: N818 - exceptions are named by what happened

import json
from collections.abc import Mapping
from typing import Any, Final


class DaybookError(Exception):
    """Anything that this client raises by itself."""


class FeedGap(DaybookError):
    """Updates were missed, and going on from the last position did not bring them."""


class ProblemError(DaybookError):
    """The server answered with a problem.

    `type` is stable and meant for programs, `detail` is for people; `told` is the whole document.
    """

    def __init__(self, told: Mapping[str, Any], status: int) -> None:
        self.told = dict(told)
        self.status = status
        self.type = str(told.get("type", "about:blank"))
        self.title = str(told.get("title", ""))
        self.detail = str(told.get("detail", ""))
        super().__init__(f"{status} {self.title}: {self.detail}".strip())

    @property
    def kind(self) -> str:
        """The last part of the type, such as `unknown-account`."""
        return self.type.rpartition(":")[2]


class Unauthenticated(ProblemError):
    """There is no token, or not a good one, or it has ended."""


class Forbidden(ProblemError):
    """The token does not allow this."""


class NotFound(ProblemError):
    """It is not there, or not yours."""


class Conflict(ProblemError):
    """An id was used for something else: the command's, or that of the fact it tells."""


class Invalid(ProblemError):
    """The request, or a value in it, is not valid."""


class Refused(ProblemError):
    """The ledger decided against a command, or lacks something that it needs."""

    @property
    def reason(self) -> str | None:
        """Why, as a word for programs, such as `unknown_order`."""
        answer = self.told.get("answer")
        told = answer.get("reason") if isinstance(answer, dict) else self.told.get("reason")
        return None if told is None else str(told)


class RateLimited(ProblemError):
    """Too many requests at once, still after trying again."""


class Unavailable(ProblemError):
    """The server cannot answer now, still after trying again."""


_BY_KIND: Final[dict[str, type[ProblemError]]] = {"refused": Refused, "lacking": Refused}
_BY_STATUS: Final[dict[int, type[ProblemError]]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    422: Invalid,
    429: RateLimited,
    500: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def problem_error(told: Mapping[str, Any], status: int) -> ProblemError:
    """Return the exception of a problem document."""
    kind = str(told.get("type", "")).rpartition(":")[2]
    return _BY_KIND.get(kind, _BY_STATUS.get(status, ProblemError))(told, status)


def error_of(status: int, content: bytes) -> ProblemError:
    """Return the exception of an answer that is no success, whatever its content is."""
    try:
        told = json.loads(content)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        told = {"title": "no problem document", "detail": content[:200].decode(errors="replace")}
    return problem_error(told, status)
