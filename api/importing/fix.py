"""FIX 4.4 messages, one a line: orders, requests, and what a venue reports of them.

| message | is |
| --- | --- |
| NewOrderSingle (D) | PlaceOrder, pending until it is acknowledged |
| OrderCancelRequest (F), OrderCancelReplaceRequest (G) | CancelOrder, ReplaceOrder |
| OrderCancelReject (9) | ReportCancelRefused, ReportReplaceRefused, by CxlRejResponseTo |
| ExecutionReport (8), ExecType F, also 1 and 2 | RecordDeal |
| ExecutionReport (8), ExecType G; H | CorrectDeal; BustDeal |
| ExecutionReport (8), ExecType 0, 3 to 9, A to E | a report on the order |
| ExecutionReport (8), ExecType I | listed: the answer to a question |
| others | listed |

An order is `DATE/ClOrdID` of its chain's first message, the date of its TransactTime in UTC; a deal
`DATE/ExecID`, the date its TradeDate where it tells one. A chain that began before the file goes by
the first id that is seen, OrigClOrdID before ClOrdID before OrderID: the ledger looks it up among
the ClOrdIDs it knows. In case it knows none, the order is placed from what that message says of it,
as a fact of its own flagged `assumed`, which changes nothing where the order is known.

A bust or correction keeps the time of its deal where the file tells it, and its own time as
`action_time`. Text is not kept. Times are UTC by the standard. Memory holds the chains and deals
seen last, and one line.
"""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from api.importing import fix_orders
from api.importing.fix_codes import SESSION_MESSAGES
from api.importing.fix_deals import COMMISSION_NOT_BOOKED, deal_fields, instrument_of
from api.importing.fix_message import FixMessage, label, parse_message
from api.importing.fix_orders import Told, can_place, fill_fields
from api.importing.lines import Fact, Line, Listed, Options, Problem, identified, open_input
from api.importing.reading import Reading, assumed_account
from domain.commands import (
    BustDeal,
    Command,
    CorrectDeal,
    DefineInstrument,
    RecordDeal,
    Request,
    Source,
)
from domain.errors import InvalidValue, shorten
from domain.identifiers import check_id
from domain.times import Instant, TimePrecision

LONGEST_LINE: Final = 1 << 20
_REMEMBERED: Final = 65_536
_ASSUMED: Final = ("assumed",)
_NO_ORDER_ID: Final = "NONE"
_BOM: Final = b"\xef\xbb\xbf"
_FILLS: Final = frozenset("12F")

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Recent(Generic[Key, Value]):
    """The entries used last, so that memory stays bounded."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: Key, value: Value) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > _REMEMBERED:
            self._entries.popitem(last=False)


class _Chain(Struct, frozen=True):
    """An order that the file has told of."""

    account: str
    order_id: str


class _Execution(Struct, frozen=True):
    """A deal that a bust or correction may name."""

    deal_id: str
    event_time: Instant
    precision: TimePrecision


def read_fix(path: str, options: Options) -> Iterator[Line]:
    """Yield what a file of FIX messages, plain or gzipped, holds; raises UnreadableFile."""
    reader = _Reader(options)
    with open_input(path) as file:
        line = 0
        while True:
            line += 1
            try:
                raw = file.readline(LONGEST_LINE)
                is_cut = _skip_rest(file, raw)
            except (OSError, EOFError, zlib.error) as error:
                yield Problem(
                    line, "file", shorten(error), "expected a file that can be read to its end"
                )
                return
            if not raw:
                return
            yield from reader.read(line, raw, is_cut)


def _skip_rest(file: BinaryIO, raw: bytes) -> bool:
    """Skip what is beyond the longest line; tell whether there was such."""
    is_cut = len(raw) == LONGEST_LINE and not raw.endswith(b"\n")
    rest = raw
    while is_cut and rest and not rest.endswith(b"\n"):
        rest = file.readline(LONGEST_LINE)
    return is_cut


class _Reader:
    """Reads message by message, and remembers the chains and deals seen last."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._reading = Reading("fix", options)
        self._chains: _Recent[tuple[str, str], _Chain] = _Recent()
        self._deals: _Recent[tuple[str, str], _Execution] = _Recent()

    def read(self, line: int, raw: bytes, is_cut: bool = False) -> list[Line]:
        """Return what a line says: nothing if it is blank, a problem if it cannot be read."""
        content = (raw.removeprefix(_BOM) if line == 1 else raw).rstrip(b"\r\n")
        if not content.strip():
            return []
        try:
            if is_cut:
                shown = content[:80].decode("latin-1")
                raise InvalidValue("line", shown, f"a line of less than {LONGEST_LINE} bytes")
            return self._read(line, parse_message(content))
        except InvalidValue as error:
            return [Problem(line, error.field, error.value, f"expected {error.expected}")]

    def _read(self, line: int, message: FixMessage) -> list[Line]:
        kind = check_id(message.need(35), label(35))
        if kind in SESSION_MESSAGES:
            return [Listed(line, SESSION_MESSAGES[kind], "a message of the session, no fact")]
        make = self._MAKERS.get(kind)
        if make is None:
            return [Listed(line, f"MsgType {shorten(kind)}", "not about an order's life")]
        if kind == "8" and message.need(150) == "I":
            return [Listed(line, "ExecType I", "the answer to a question, no fact of its own")]
        told = self._told(line, kind, message)
        facts: list[Line] = [self._placed(told, assumed=True)] if can_place(told) else []
        facts.append(make(self, told))
        self._remember(told)
        return facts

    def _told(self, line: int, kind: str, message: FixMessage) -> Told:
        event_time, precision = message.moment()
        named = message.name(1)
        for tag in {"D": (11,), "F": (11, 41), "G": (11, 41)}.get(kind, ()):
            message.need(tag)
        cl_ord_id, orig, venue_id = message.name(11), message.name(41), message.name(37)
        first = cl_ord_id if kind == "D" else orig or cl_ord_id or venue_id
        if first is None:
            raise InvalidValue(label(11), "", "an id of the order here, or in OrderID(37)")
        ids = [each for each in (cl_ord_id, orig) if each] or [f"OrderID/{venue_id}"]
        chain = None if kind == "D" else self._find(named, ids)
        account = named or (chain.account if chain else self._options.account)
        if account is None:
            raise InvalidValue(label(1), "", "an account here, or --account")
        order_id = chain.order_id if chain else f"{event_time[:10]}/{first}"
        return Told(
            line=line,
            message=message,
            kind=kind,
            account=check_id(account, "account"),
            order_id=check_id(order_id, label(11)),
            event_time=event_time,
            precision=precision,
            is_new=chain is None,
        )

    def _find(self, account: str | None, ids: list[str]) -> _Chain | None:
        for each in ids:
            chain = self._chains.get((account or "", each))
            if chain is not None:
                return chain
        return None

    def _remember(self, told: Told) -> None:
        """Keep the chain under all ids of the message, for messages with and without account."""
        message, chain = told.message, _Chain(told.account, told.order_id)
        venue_id = message.text(37)
        ids = [message.text(11), message.text(41)]
        if venue_id and venue_id != _NO_ORDER_ID:
            ids.append(f"OrderID/{venue_id}")
        for each in filter(None, ids):
            self._chains.put((told.account, each), chain)
            self._chains.put(("", each), chain)

    def _fact(
        self,
        told: Told,
        command: Command,
        event_time: Instant | None = None,
        instrument: tuple[str, DefineInstrument] | None = None,
        flags: tuple[str, ...] = (),
    ) -> Fact:
        request = identified(
            Request(
                command_id="",
                key=told.account,
                event_time=event_time or told.event_time,
                command=command,
                source=Source(digest=self._options.digest, line=told.line),
                flags=flags,
            )
        )
        if flags == _ASSUMED:
            # The message that places the order may tell just the same, and is another request.
            request = replace(request, command_id=f"{request.command_id}:assumed")
        currency = instrument[1].currency if instrument and told.message.text(15) else None
        defines = (instrument,) if instrument else ()
        return Fact(told.line, request, assumed_account(currency), defines)

    def _placed(self, told: Told, *, assumed: bool = False) -> Fact:
        instrument = instrument_of(told.message)
        command = fix_orders.placing(told, instrument[0], assumed=assumed)
        return self._fact(told, command, None, instrument, _ASSUMED if assumed else ())

    def _requested(self, told: Told) -> Fact:
        return self._fact(told, fix_orders.request(told))

    def _refused(self, told: Told) -> Fact:
        return self._fact(told, fix_orders.refusal(told))

    def _executed(self, told: Told) -> Fact:
        exec_type = told.message.need(150)
        if exec_type in _FILLS:
            return self._dealt(told, None)
        if exec_type == "G":
            return self._dealt(told, self._original(told))
        if exec_type == "H":
            return self._busted(told, self._original(told))
        # On Calculated the commission is the whole order's, and belongs to no deal.
        unbooked = exec_type == "B" and told.message.number(12)
        flags = (COMMISSION_NOT_BOOKED,) if unbooked else ()
        return self._fact(told, fix_orders.report(told), flags=flags)

    def _dealt(self, told: Told, original: _Execution | None) -> Fact:
        own = self._own(told)
        instrument = instrument_of(told.message)
        fields, flags = deal_fields(told.message, self._reading)
        fields |= {**fill_fields(told), "deal_id": own.deal_id}
        kept = original or own
        fields["time_precision"] = kept.precision
        command = (
            RecordDeal(**fields)
            if original is None
            else CorrectDeal(**fields, ref_deal_id=original.deal_id, action_time=told.event_time)
        )
        fact = self._fact(told, command, kept.event_time, instrument, flags)
        remembered = replace(kept, deal_id=own.deal_id)
        self._deals.put((told.account, told.message.need(17)), remembered)
        return fact

    def _busted(self, told: Told, original: _Execution) -> Fact:
        command = BustDeal(
            **fill_fields(told),
            deal_id=self._own(told).deal_id,
            ref_deal_id=original.deal_id,
            time_precision=original.precision,
            action_time=told.event_time,
        )
        return self._fact(told, command, original.event_time)

    def _own(self, told: Told) -> _Execution:
        return self._named(told, 17)

    def _original(self, told: Told) -> _Execution:
        """Return the deal that a bust or correction names, as the file told it or as named here."""
        known = self._deals.get((told.account, told.message.need(19)))
        return known or self._named(told, 19)

    def _named(self, told: Told, tag: int) -> _Execution:
        date = told.message.day(75) or told.event_time[:10]
        deal_id = check_id(f"{date}/{told.message.need(tag)}", label(tag))
        return _Execution(deal_id, told.event_time, told.precision)

    _MAKERS: Final[dict[str, Callable[["_Reader", Told], Fact]]] = {
        "D": _placed,
        "F": _requested,
        "G": _requested,
        "8": _executed,
        "9": _refused,
    }
