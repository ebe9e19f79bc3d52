"""Whole tables as CSV, Arrow or Parquet: from one consistent state, and with bounded memory.

An export has a connection of its own, whose transaction sees one state of the read models from the
first row to the last. Only a few run at once, fewer of one principal; a client that does not read,
or takes too long over it all, is dropped.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from starlette.responses import Response

from api.http.copies import Copies
from api.http.edge import ClientStalled
from api.http.formats import Format, is_current, streamed, tag, whole
from api.http.operation import Call
from api.http.pages import (
    EVER,
    Period,
    conditions,
    is_stored,
    one_state,
    period_rows,
    position_now,
    where,
)
from api.http.readers import bound
from api.http.stored import Stored, stored_tables
from api.questions import Asker, Question
from api.read_models import READ_MODELS, ReadModel
from api.tables import ArrowPieces, CsvPieces, Pieces, Scales, scales_of
from api.wiring import Parts
from streams.positions import to_text

if TYPE_CHECKING:
    from api.http.services import Services

STATEMENT_S: Final = 300
"""How long Postgres works on one statement of an export."""
READING_S: Final = 600.0
"""How long a client may take for all pieces: meanwhile it holds a place, and a state of the store.
"""
_ROWS: Final = 5_000


class _Whence(Struct, frozen=True):
    """Whence an export is answered; `state` is another one whenever its rows may be."""

    position: str
    is_provisional: bool
    state: str


_Made = Generator[_Whence | bytes, None, None]


async def exported(
    call: Call,
    model: ReadModel,
    question: Question,
    period: Period,
    accounts: Callable[[Parts], list[str] | None],
    chosen: Format,
) -> Response:
    """Return the answer that streams a whole table."""
    stack = contextlib.AsyncExitStack()
    stack.callback(await call.services.export_place(call.principal))
    try:
        made = _pieces(call.services, model, question, period, accounts, chosen)
        stack.push_async_callback(asyncio.to_thread, made.close)
        whence = await _next(made)
        assert isinstance(whence, _Whence)
    except BaseException:
        await stack.aclose()
        raise
    etag = tag(chosen, whence.state, str(call.request.url))
    headers = {"Daybook-Position": whence.position}
    if whence.is_provisional:
        headers["Daybook-Provisional"] = "true"
    if is_current(call.request, etag):
        await stack.aclose()
        return whole(call.request, b"", chosen, etag, headers)
    return streamed(call.request, _sent(made, stack), chosen, etag, headers)


async def _sent(made: _Made, stack: contextlib.AsyncExitStack) -> AsyncIterator[bytes]:
    reading_s = 0.0
    async with stack:
        while (piece := await _next(made)) is not None:
            if isinstance(piece, bytes) and piece:
                given_at = time.monotonic()
                yield piece
                reading_s += time.monotonic() - given_at
                if reading_s > READING_S:
                    raise ClientStalled


async def _next(made: _Made) -> _Whence | bytes | None:
    """Return the next piece. One that is being made is waited for even when nobody wants it."""
    step = asyncio.ensure_future(asyncio.to_thread(next, made, None))
    try:
        return await asyncio.shield(step)
    except asyncio.CancelledError:
        await asyncio.wait([step])
        raise


def _pieces(
    services: "Services",
    model: ReadModel,
    question: Question,
    period: Period,
    accounts: Callable[[Parts], list[str] | None],
    chosen: Format,
) -> _Made:
    """Yield whence the answer is, and then the table."""
    with services.exporters.parts() as parts:
        connection = parts.models.connection
        bound(connection, STATEMENT_S)
        with one_state(connection):
            asker = Asker(parts, question, is_current=True)
            asker.keep_to(accounts(parts))
            yield _whence(parts, model, question, asker)
            if is_stored(model, question) and model.view is not None:
                copies = services.copies
                yield from _stored_pieces(parts, model, question, asker, period, chosen, copies)
            else:
                shown = model.show(asker, period_rows(asker, model.rows(asker), period))
                pieces = _writer(model, chosen, scales_of(shown.columns, shown.rows))
                yield pieces.first()
                for start in range(0, len(shown.rows), _ROWS):
                    yield pieces.rows(shown.rows[start : start + _ROWS])
                yield pieces.last()


def _whence(parts: Parts, model: ReadModel, question: Question, asker: Asker) -> _Whence:
    """Return whence rows are answered, with all that they may depend on.

    Beside the rows' own changes that is whose they are, marks, and the date that settles cash.
    """
    now, known_at = position_now(parts, model, question), asker.known_at
    position = now if known_at is None else to_text(known_at)
    marks = ""
    if model.name == "positions":
        marks = position_now(parts, READ_MODELS["prices"], Question())
    state = (now, position, asker.accounts_asked, marks, datetime.now(UTC).date().isoformat())
    return _Whence(position, known_at is not None and known_at.provisional, repr(state))


def _stored_pieces(
    parts: Parts,
    model: ReadModel,
    question: Question,
    asker: Asker,
    period: Period,
    chosen: Format,
    copies: Copies,
) -> Iterator[bytes]:
    table = model.table
    assert table is not None
    told, values = conditions(asker, table, question, period)
    if chosen == "csv":
        pieces = CsvPieces(model.columns)
        yield pieces.first()
        rows = iter(parts.models.scan(table, where(told), values))
        while batch := list(islice(rows, _ROWS)):
            yield pieces.rows(model.show(asker, batch).rows)
        return
    account = question.account if (question, period) == (_all_of(question), EVER) else None
    scales, found = stored_tables(Stored(parts, model, told, values), account, copies)
    with contextlib.closing(found):
        batches = ArrowPieces(model.columns, scales, "arrow" if chosen == "arrow" else "parquet")
        yield batches.first()
        for rows in found:
            yield batches.table(rows)
        yield batches.last()


def _all_of(question: Question) -> Question:
    """Return the question for everything of its account."""
    return Question(account=question.account)


def _writer(model: ReadModel, chosen: Format, scales: Scales) -> Pieces:
    if chosen in ("arrow", "parquet"):
        return ArrowPieces(model.columns, scales, "arrow" if chosen == "arrow" else "parquet")
    return CsvPieces(model.columns)
