"""Who asked what, and who was turned away: the audit trail, for those who may read it."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.responses import Response

from api.http import parameters as p
from api.http.audit import AuditTrail, read_lines
from api.http.cursors import from_cursor, to_cursor
from api.http.formats import tag, whole
from api.http.openapi import page_schema
from api.http.operation import Call, Operation, Reply
from api.http.security import Principal
from api.http.services import Services
from streams.past import AsOf

_LINE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["time", "subject", "role", "operation", "status", "previous"],
}
_EXAMPLE: Final = {
    "time": "2024-01-05T09:30:00.000000000Z",
    "request_id": "0190b5c0000070008000000000000004",
    "subject": "ann",
    "role": "quant",
    "operation": "read_account_positions",
    "path": {"account": "A1"},
    "accounts": [],
    "query": {"as_of": "2024-01-04"},
    "status": 200,
    "client": "127.0.0.1",
    "previous": "f" * 64,
}


def operations() -> list[Operation]:
    """Return the operation that reads the audit trail."""
    return [
        Operation(
            name="read_audit",
            method="GET",
            path="/v1/audit",
            summary="Who wrote, who read, and who was turned away",
            description="The lines of this server's audit trail in their order, each with the"
            " digest of the one before it. Who may see some accounts alone gets the lines that"
            " name these and no others.",
            scope="audit",
            parameters=(p.FROM, p.TO, p.CURSOR, p.LIMIT),
            answer=_answer,
            replies={
                200: Reply(
                    "Lines.",
                    page_schema(_LINE),
                    {"data": [_EXAMPLE], "next": None, "position": "2024-01-05:402"},
                )
            },
        )
    ]


class _Asked(Struct, frozen=True):
    since: AsOf
    until: AsOf
    day: str
    offset: int
    """Where to go on, in bytes of the day's file."""
    limit: int
    may_see: Callable[[bytes], bool]


class _Found(Struct):
    lines: list[bytes]
    day: str
    offset: int
    is_more: bool = False


async def _answer(call: Call) -> Response:
    asked = p.asked(call.request, call.operation.parameters)
    same = f"{call.services.log_id} audit {call.principal.subject} {asked.question()}"
    cursor = asked.get(p.CURSOR)
    since, until = asked.time(p.FROM), asked.time(p.TO)
    day, offset = (_day(since), 0) if cursor is None else from_cursor(cursor, same)
    limit = asked.limit() or p.DEFAULT_LIMIT
    may_see = await _seen_by(call.services, call.principal)
    wanted = _Asked(since, until, day, offset, limit, may_see)
    found = await asyncio.to_thread(_read, call.services.audit, wanted)
    following = to_cursor((found.day, found.offset), same) if found.is_more else None
    position = f"{found.day}:{found.offset}"
    data = b"[" + b",".join(found.lines) + b"]"
    told = msgspec.json.encode({"next": following, "position": position})
    content = b'{"data":' + data + b"," + told[1:]
    return whole(call.request, content, "json", tag(data, following or ""), {})


def _read(trail: AuditTrail, asked: _Asked) -> _Found:
    found = _Found([], asked.day, asked.offset)
    for day, end, line in read_lines(trail.folder, asked.day, asked.offset):
        time = _time_of(line)
        if time is None:
            # Half a line, of a machine that lost power: `daybook verify` names it.
            continue
        if _is_after(time, asked.until):
            break
        if len(found.lines) == asked.limit:
            found.is_more = True
            break
        if not _is_before(time, asked.since) and asked.may_see(line):
            found.lines.append(line)
        found.day, found.offset = day, end
    return found


class _Timed(Struct, frozen=True):
    time: str


def _time_of(line: bytes) -> str | None:
    try:
        return msgspec.json.decode(line, type=_Timed).time
    except msgspec.DecodeError:
        return None


def _day(since: AsOf) -> str:
    return (since.day or since.instant or "")[:10]


def _is_before(time: str, since: AsOf) -> bool:
    return time[:10] < since.day if since.day else time < (since.instant or "")


def _is_after(time: str, until: AsOf) -> bool:
    if until.day:
        return time[:10] > until.day
    return until.instant is not None and time > until.instant


class _Named(Struct, frozen=True):
    """What of a line may name accounts."""

    path: dict[str, str] = {}
    accounts: list[str] = []
    query: dict[str, str] = {}
    account: str | None = None

    def named(self, what: str) -> set[str]:
        """Return the names of accounts or portfolios in the path and the question."""
        return {place[what] for place in (self.path, self.query) if what in place}


async def _seen_by(services: Services, principal: Principal) -> Callable[[bytes], bool]:
    """Return what tells whether a principal may see a line: who may not see all, few."""
    if principal.accounts is None:
        return lambda _line: True
    own, portfolios = principal.accounts, principal.portfolios
    if portfolios:
        await services.wait_for({}, ("accounts", "instruments"))
        portfolios, below = await services.directory.below(portfolios)
        own = own | below

    def may_see(line: bytes) -> bool:
        told = msgspec.json.decode(line, type=_Named)
        accounts = {*told.accounts, *told.named("account"), *filter(None, (told.account,))}
        named = told.named("portfolio")
        return bool(accounts or named) and accounts <= own and named <= portfolios

    return may_see
