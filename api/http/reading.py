"""Reads of the read models: one operation for each, made from the table of them."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final
from urllib.parse import quote

import msgspec
from msgspec import Struct
from starlette.responses import Response

from api.http import parameters as p
from api.http.cursors import from_cursor, to_cursor
from api.http.directory import account_exists, portfolio_exists
from api.http.exporting import exported
from api.http.formats import Format, chosen_format, tag, whole
from api.http.hot import Answer
from api.http.openapi import page_reply
from api.http.operation import Call, Operation, Parameter
from api.http.pages import Page, Period, is_of_now, page, projection_of, projections_of
from api.http.problems import UNKNOWN_ACCOUNT, UNKNOWN_PORTFOLIO, Problem
from api.questions import Asker, Question, known_at_from, method_from
from api.read_models import READ_MODELS, ReadModel
from api.tables import ArrowPieces, CsvPieces, json_rows, scales_of
from api.wiring import Parts
from schemas.partitioning import partition_of

_EVERY: Final = (p.MIN_POSITION, p.CURSOR, p.LIMIT, p.FORMAT)
_PAST: Final = (p.AS_OF, p.KNOWN_AT)
_PERIOD: Final = (p.FROM, p.TO)


_OF_INSTRUMENTS: Final = ("instruments", "prices")
_MUCH: Final = 64 * 1024


class Read(Struct, frozen=True):
    """A read model at a path: whose rows, and by what they may be asked."""

    model: str
    summary: str
    parameters: tuple[Parameter, ...]
    portfolio: bool = False


_OF_ACCOUNTS: Final = (
    Read("orders", "Orders with their status and fills", (*_PAST, *_PERIOD, p.INSTRUMENT)),
    Read("deals", "Deals, one row a chain of corrections", (*_PAST, *_PERIOD, p.INSTRUMENT)),
    Read("cash", "Cash that moved without a deal", (*_PAST, *_PERIOD, p.INSTRUMENT)),
    Read("movements", "Units that moved without a deal", (*_PAST, *_PERIOD, p.INSTRUMENT)),
    Read("balances", "Cash by currency, by trade date and settled", _PAST),
    Read(
        "positions",
        "Positions with cost, P&L and value",
        (*_PAST, p.INSTRUMENT, p.METHOD, p.OPEN),
        portfolio=True,
    ),
    Read("lots", "The lots of positions", (*_PAST, p.INSTRUMENT, p.METHOD, p.OPEN)),
)
"""What is asked of an account: a new read model is a line here."""

_OF_ALL: Final = (
    Read("accounts", "The accounts that you may see", _PAST),
    Read("instruments", "Instruments as defined last", (*_PAST, p.INSTRUMENT)),
    Read("prices", "Prices, revisions in the order they came", (*_PAST, *_PERIOD, p.INSTRUMENT)),
)


def operations() -> list[Operation]:
    """Return the operations that read."""
    made = [_operation(read, f"/v1/{read.model}", None) for read in _OF_ALL]
    for read in _OF_ACCOUNTS:
        made.append(_operation(read, f"/v1/accounts/{{account}}/{read.model}", "account"))
        if read.portfolio:
            made.append(_operation(read, f"/v1/portfolios/{{portfolio}}/{read.model}", "portfolio"))
    return made


def _operation(read: Read, path: str, owner: Any) -> Operation:
    model = READ_MODELS[read.model]
    return Operation(
        name=f"read_{owner}_{read.model}" if owner else f"read_{read.model}",
        method="GET",
        path=path,
        summary=read.summary,
        scope="read",
        owner=owner,
        parameters=(*read.parameters, *_EVERY),
        answer=_answer(model, of_portfolio=owner == "portfolio"),
        replies={200: page_reply(model)},
    )


def _answer(model: ReadModel, *, of_portfolio: bool) -> Callable[[Call], Awaitable[Response]]:
    projections = projections_of(model, of_portfolio=of_portfolio)

    async def answer(call: Call) -> Response:
        """Return a page of the rows, or all of them as a stream."""
        asked = p.asked(call.request, call.operation.parameters)
        question, period = _question(call, asked), Period(asked.time(p.FROM), asked.time(p.TO))
        chosen = chosen_format(call.request, _told_format(asked))
        limit, places = asked.limit(), asked.places(p.MIN_POSITION, call.services.partitions)
        same = f"{call.services.log_id} {call.request.scope['path']} {asked.question()}"
        cursor = asked.get(p.CURSOR)
        after = None if cursor is None else from_cursor(cursor, same)
        key = question.account if projections[0] not in _OF_INSTRUMENTS else question.instrument
        await call.services.wait_for(places, projections, key)
        accounts = _own_accounts(call, model, question)
        if chosen != "json" and limit is None and after is None:
            await call.services.readers.run(lambda parts: _check_there(parts, question))
            return await exported(call, model, question, period, accounts, chosen)
        rows = p.DEFAULT_LIMIT if limit is None else limit

        def read(parts: Parts, at_least: int | None) -> Answer:
            marks_now = call.services.hot.known_marks
            own = accounts(parts)
            found = page(parts, model, question, period, after, rows, own, marks_now, at_least)
            if not found.shown.rows and after is None:
                _check_there(parts, question)
            return _page(call, found, _content(found, chosen), chosen, same)

        found = await _hot(call, model, question, (same, cursor, rows, chosen), read)
        told = (call.request, found.content, chosen, found.etag, found.headers)
        # To pack much takes long, and nobody else would be answered meanwhile.
        return whole(*told) if len(found.content) < _MUCH else await asyncio.to_thread(whole, *told)

    return answer


async def _hot(
    call: Call,
    model: ReadModel,
    question: Question,
    asked: tuple[Hashable, ...],
    read: Callable[[Parts, int | None], Answer],
) -> Answer:
    """Return an answer that still holds, else one that is read: not from before what is known."""
    services = call.services
    if question.account is None or not is_of_now(question):
        return await services.readers.run(lambda parts: read(parts, None))
    partition = partition_of(question.account, services.partitions)
    projection = projection_of(model).name
    state = services.hot.state(model, projection, partition)
    found = services.hot.find(asked, state)
    if found is None or state is None:
        reached = None if state is None else services.hot.reached(projection, partition)
        at_least = None if reached is None else reached - 1
        found = await services.readers.run(lambda parts: read(parts, at_least))
        if state is not None:
            services.hot.keep(asked, state, found)
    return found


def _told_format(asked: p.Asked) -> str | None:
    return None if asked.get(p.FORMAT) is None else asked.choice(p.FORMAT, "json")


def _question(call: Call, asked: p.Asked) -> Question:
    told = call.request.path_params
    return Question(
        account=told.get("account"),
        portfolio=told.get("portfolio"),
        instrument=asked.id(p.INSTRUMENT),
        as_of=asked.time(p.AS_OF),
        known_at=known_at_from(asked.get(p.KNOWN_AT)),
        method=method_from(asked.get(p.METHOD)),
        open_only=asked.choice(p.OPEN, "false") == "true",
    )


def _own_accounts(
    call: Call, model: ReadModel, question: Question
) -> Callable[[Parts], list[str] | None]:
    """Return what finds the accounts that rows are cut down to, None for all that are asked for.

    A list of accounts has the asker's own, and so has the past of a portfolio: who was in it then
    may be somebody else's now.
    """
    principal = call.principal
    is_past = question.portfolio is not None and not is_of_now(question)
    if principal.accounts is None or not (is_past or model.name == "accounts"):
        return lambda _parts: None
    own, portfolios = principal.accounts, sorted(principal.portfolios)

    def found(parts: Parts) -> list[str]:
        below = (Asker(parts, Question(portfolio=name), is_current=True) for name in portfolios)
        return sorted(own.union(*(asker.accounts_asked or () for asker in below)))

    return found


def _check_there(parts: Parts, question: Question) -> None:
    """Raise Problem for an account or a portfolio that is not there."""
    if question.account is not None and not account_exists(parts, question.account):
        raise Problem(UNKNOWN_ACCOUNT, "there is no such account, or it is not yours")
    if question.portfolio is not None and not portfolio_exists(parts, question.portfolio):
        raise Problem(UNKNOWN_PORTFOLIO, "there is no such portfolio, or it is not yours")


def _content(found: Page, chosen: Format) -> bytes:
    shown = found.shown
    if chosen == "json":
        return b"[" + b",".join(json_rows(shown.columns, shown.rows)) + b"]"
    if chosen == "csv":
        lines = CsvPieces(shown.columns)
        return lines.first() + lines.rows(shown.rows)
    batches = ArrowPieces(shown.columns, scales_of(shown.columns, shown.rows), chosen)
    return batches.first() + batches.rows(shown.rows) + batches.last()


def _page(call: Call, found: Page, content: bytes, chosen: Format, same: str) -> Answer:
    following = None if found.last is None else to_cursor(found.last, same)
    headers = {"Daybook-Position": found.position}
    if found.is_provisional:
        headers["Daybook-Provisional"] = "true"
    if following is not None:
        query = call.request.url.include_query_params(cursor=following).query
        # Ids are in any script, and headers of latin-1.
        names = {name: quote(told, safe="") for name, told in call.request.path_params.items()}
        path = call.operation.path.format_map(names)
        headers["Link"] = f'<{path}?{query}>; rel="next"'
    etag = tag(chosen, content, following or "")
    if chosen == "json":
        content = b'{"data":%b,"next":%b,"position":%b}' % (
            content,
            msgspec.json.encode(following),
            msgspec.json.encode(found.position),
        )
    return Answer(content, etag, headers)
