"""Requests as values: what is sent, when it is sent again, and what the answer means."""

import json
import random
import uuid
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx

from .errors import Unavailable, error_of

Amount = Decimal | int | str
"""A number as the ledger takes it. Floats are refused: they do not hold amounts exactly."""
Time = datetime | str
"""An instant: RFC 3339, or a datetime with a zone."""

ATTEMPTS: Final = 6
_RETRIED: Final = frozenset((429, 502, 503, 504))
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 5.0


@dataclass(frozen=True)
class Answer:
    """The ledger's answer to a command.

    `status` is accepted, duplicate or (in a list) refused; `position` can be waited for by reads,
    as `min_position`. `replayed` says that this very command was answered before.
    """

    command_id: str | None
    status: str
    position: str | None
    event: str | None
    reason: str | None
    replayed: bool = False
    told: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Call:
    """One request. It may be sent any number of times: reads change nothing, writes have a key."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


def write(path: str, body: Mapping[str, Any], key: str | None, *, strict: bool = False) -> Call:
    """Return the call of a command, under a key of its own where none is told."""
    return Call(
        "POST",
        path,
        {"strict": "true"} if strict else {},
        {"Idempotency-Key": key or new_key(), "Content-Type": "application/json"},
        encoded({name: value for name, value in body.items() if value is not None}),
    )


def new_key() -> str:
    """Return an id that nobody has used."""
    return f"client/{uuid.uuid4()}"


def encoded(told: Any) -> bytes:
    """Return JSON; raises TypeError for a float, and for a time without a zone."""
    return json.dumps(_plain(told), separators=(",", ":")).encode()


def _plain(told: Any) -> Any:
    match told:
        case None | bool() | int() | str():
            return told
        case float():
            raise TypeError(f"{told!r} is a float: say it as text or as a Decimal")
        case Decimal():
            return format(told, "f")
        case datetime() if told.tzinfo is None:
            raise TypeError(f"{told!r} has no time zone")
        case datetime():
            return told.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return told.isoformat()
        case Mapping():
            return {str(name): _plain(value) for name, value in told.items()}
        case list() | tuple():
            return [_plain(value) for value in told]
        case _:
            raise TypeError(f"{told!r} cannot be sent: it is a {type(told).__name__}")


def time_text(told: Time | date | None) -> str | None:
    """Return a time or date as a parameter; raises TypeError for a time without a zone."""
    return None if told is None else str(_plain(told))


def part(name: str) -> str:
    """Return a name as a part of a path."""
    return quote(name, safe="")


def now() -> str:
    """Return this moment."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


# --- answers -------------------------------------------------------------------------------------


def is_worth_retrying(status: int) -> bool:
    """Tell whether the same request may succeed in a moment."""
    return status in _RETRIED


def wait_s(attempt: int, retry_after: str | None = None) -> float:
    """Return how long to wait before another attempt: longer each time, and never in step."""
    told = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    doubled = _FIRST_WAIT_S * 2 ** min(attempt, 10)
    backoff: float = min(doubled, _LONGEST_WAIT_S) * random.uniform(0.5, 1.0)  # noqa: S311
    return min(max(told, backoff), _LONGEST_WAIT_S)


Attempts = Generator[
    httpx.Request | float, httpx.Response | httpx.TransportError | None, httpx.Response
]
"""What to send or how long to wait; told the answer, or what failed; returns the final answer."""


def attempts(request: Callable[[], httpx.Request]) -> Attempts:
    """Send a request until its answer is final; raises Unavailable where there is none."""
    for attempt in range(ATTEMPTS):
        is_last = attempt + 1 == ATTEMPTS
        outcome = yield request()
        retry_after = None
        match outcome:
            case httpx.Response():
                if is_last or not is_worth_retrying(outcome.status_code):
                    return outcome
                retry_after = outcome.headers.get("Retry-After")
            case httpx.TransportError() if is_last:
                detail = f"{type(outcome).__name__}: {outcome}"
                told = {"title": "the server does not answer", "detail": detail}
                raise Unavailable(told, 503) from outcome
        yield wait_s(attempt, retry_after)
    raise AssertionError("the last attempt returns or raises")


_Step = TypeVar("_Step")
_Told = TypeVar("_Told")
_Result = TypeVar("_Result")


def driven(steps: Generator[_Step, _Told, _Result], do: Callable[[_Step], _Told]) -> _Result:
    """Do each step and tell what came of it, until the steps return."""
    try:
        step = next(steps)
        while True:
            step = steps.send(do(step))
    except StopIteration as end:
        result: _Result = end.value
        return result


async def awaited(
    steps: Generator[_Step, _Told, _Result], do: Callable[[_Step], Awaitable[_Told]]
) -> _Result:
    """As `driven`, for steps that are awaited."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await do(step))
    except StopIteration as end:
        result: _Result = end.value
        return result


def checked(response: httpx.Response) -> httpx.Response:
    """Return an answer that is a success; raises ProblemError."""
    if response.is_success:
        return response
    raise error_of(response.status_code, response.content)


def answer_of(response: httpx.Response) -> Answer:
    """Return the answer to a command; raises ProblemError, Refused where it was decided against."""
    replayed = response.headers.get("Idempotency-Replayed") == "true"
    return _answer(checked(response).json(), replayed=replayed)


def answers_of(response: httpx.Response) -> list[Answer]:
    """Return the answers to a list of commands, refusals among them; raises ProblemError."""
    return [_answer(told) for told in checked(response).json()]


def _answer(told: Mapping[str, Any], *, replayed: bool = False) -> Answer:
    return Answer(
        told.get("command_id"),
        str(told["status"]),
        told.get("position"),
        told.get("event"),
        told.get("reason"),
        replayed,
        told,
    )
