"""RFC 9457 problems: every type there is, and the one place that maps errors to them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import psycopg
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.responses import Response

from domain.errors import InvalidValue
from infra.errors import InfraError, MigrationRefused
from streams.log import LogHalted

MEDIA_TYPE: Final = "application/problem+json"
_PREFIX: Final = "urn:daybook:problem:"


class Kind(Struct, frozen=True):
    """A kind of problem: its name, the status that it is answered with, and its title."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """Return the URI that names it, for ever the same."""
        return _PREFIX + self.name


INVALID_JSON: Final = Kind("invalid-json", 400, "The body is not strict JSON")
INVALID_REQUEST: Final = Kind("invalid-request", 400, "The request cannot be understood")
INVALID_CURSOR: Final = Kind("invalid-cursor", 400, "The cursor is not one given for this question")
UNAUTHENTICATED: Final = Kind("unauthenticated", 401, "A valid token is needed")
FORBIDDEN: Final = Kind("forbidden", 403, "The token does not allow this")
FOREIGN_ORIGIN: Final = Kind("foreign-origin", 403, "Pages of other sites may not ask")
NOT_FOUND: Final = Kind("not-found", 404, "There is nothing here")
UNKNOWN_ACCOUNT: Final = Kind("unknown-account", 404, "There is no such account")
UNKNOWN_PORTFOLIO: Final = Kind("unknown-portfolio", 404, "There is no such portfolio")
METHOD_NOT_ALLOWED: Final = Kind("method-not-allowed", 405, "This path has no such method")
NOT_ACCEPTABLE: Final = Kind("not-acceptable", 406, "No format that is accepted can be given")
TOO_SLOW: Final = Kind("body-too-slow", 408, "The body did not come in time")
CONFLICT: Final = Kind("conflict", 409, "The id was used for something else")
TOO_LARGE: Final = Kind("body-too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA: Final = Kind("unsupported-media-type", 415, "The body is not application/json")
MISDIRECTED: Final = Kind("misdirected", 421, "The Host is not one of this server's names")
INVALID_VALUE: Final = Kind("invalid-value", 422, "A value is not valid")
REFUSED: Final = Kind("refused", 422, "The command was refused")
LACKING: Final = Kind("lacking", 422, "Something that the command needs is not there")
RATE_LIMITED: Final = Kind("rate-limited", 429, "Too many requests")
INTERNAL: Final = Kind("internal", 500, "Something went wrong here")
NOT_YET: Final = Kind("not-there-yet", 501, "This is not there yet")
OVERLOADED: Final = Kind("overloaded", 503, "The server has too much to do")
UNAVAILABLE: Final = Kind("unavailable", 503, "A part that is needed is not available")
NOT_REACHED: Final = Kind("position-not-reached", 504, "The read models are not there yet")
TOO_LONG: Final = Kind("took-too-long", 504, "The answer took too long")

KINDS: Final = (
    INVALID_JSON,
    INVALID_REQUEST,
    INVALID_CURSOR,
    UNAUTHENTICATED,
    FORBIDDEN,
    FOREIGN_ORIGIN,
    NOT_FOUND,
    UNKNOWN_ACCOUNT,
    UNKNOWN_PORTFOLIO,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    TOO_SLOW,
    CONFLICT,
    TOO_LARGE,
    UNSUPPORTED_MEDIA,
    MISDIRECTED,
    INVALID_VALUE,
    REFUSED,
    LACKING,
    RATE_LIMITED,
    INTERNAL,
    NOT_YET,
    OVERLOADED,
    UNAVAILABLE,
    NOT_REACHED,
    TOO_LONG,
)
"""Every kind, as docs/reference/problems.md lists them."""

UNKNOWN_TOPIC: Final = Kind("unknown-topic", 404, "There is no such topic")
TOPIC_NOT_YET: Final = Kind("topic-not-yet", 501, "This topic is not there yet")
DUPLICATE_SUBSCRIPTION: Final = Kind("duplicate-subscription", 409, "The id is in use")
UNKNOWN_SUBSCRIPTION: Final = Kind("unknown-subscription", 404, "There is no such subscription")
TOO_MANY_SUBSCRIPTIONS: Final = Kind("too-many-subscriptions", 429, "Too many subscriptions")

FEED_KINDS: Final = (
    UNKNOWN_TOPIC,
    TOPIC_NOT_YET,
    DUPLICATE_SUBSCRIPTION,
    UNKNOWN_SUBSCRIPTION,
    TOO_MANY_SUBSCRIPTIONS,
)
"""The problems that only the feed has."""

_OTHERS: Final = (
    "the read models were made by another version of Daybook, or not yet; if it goes on, this"
    " server has to be restarted, with the version that made them"
)
_BY_STATUS: Final = {404: NOT_FOUND, 405: METHOD_NOT_ALLOWED}
_RETRY_S: Final = {RATE_LIMITED: 1, OVERLOADED: 1, UNAVAILABLE: 2, NOT_REACHED: 1, TOO_LONG: 5}


class Problem(Exception):  # noqa: N818 - named as the RFC names it
    """A request that is answered with a problem; `told` are further members of the document."""

    def __init__(
        self, kind: Kind, detail: str, *, headers: Mapping[str, str] | None = None, **told: Any
    ) -> None:
        super().__init__(f"{kind.name}: {detail}")
        self.kind = kind
        self.detail = detail
        self.told = told
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """Return the problem as JSON."""
        kind = self.kind
        fixed = {"type": kind.type, "title": kind.title, "status": kind.status}
        return {**fixed, "detail": self.detail, **self.told}

    def response(self) -> Response:
        """Return the answer that tells the problem."""
        headers = {"Cache-Control": "no-store", **self.headers}
        if (retry_s := _RETRY_S.get(self.kind)) is not None:
            headers.setdefault("Retry-After", str(retry_s))
        content = msgspec.json.encode(self.document())
        return Response(content, self.kind.status, headers, media_type=MEDIA_TYPE)


def problem_of(error: BaseException) -> Problem | None:
    """Return the problem that an error stands for, None for what nobody foresaw."""
    match error:
        case Problem():
            return error
        case InvalidValue():
            told: dict[str, Any] = {
                "field": error.field,
                "value": error.value,
                "expected": error.expected,
            }
            return Problem(INVALID_VALUE, str(error), **told)
        case HTTPException():
            kind = _BY_STATUS.get(error.status_code, INVALID_REQUEST)
            allowed = dict(error.headers or {})
            return Problem(kind, HTTPStatus(error.status_code).phrase, headers=allowed)
        case psycopg.errors.QueryCanceled() | TimeoutError():
            return Problem(TOO_LONG, "ask for less at once, or page by page with `limit`")
        case LogHalted():
            return Problem(UNAVAILABLE, f"a record stops every reader: {error}")
        case (
            MigrationRefused() | psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn()
        ):
            return Problem(UNAVAILABLE, _OTHERS)
        case InfraError() | psycopg.OperationalError():
            # What the server said of itself may hold names and addresses: it is logged, not told.
            return Problem(UNAVAILABLE, "the ledger's store does not answer; try again")
        case _:
            return None
