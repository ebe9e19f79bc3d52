"""IBKR Flex statements (XML): every line is booked, or listed with the reason why not.

Booked: Trade, CashTransaction and CorporateAction lines, the cash a statement begins with
(CashReportCurrency), and ConversionRate lines as closing prices of currency pairs. Every other
line that tells anything is listed.

An account is opened with what the statement says: its base currency (AccountInformation, else the
functional currency of its FxTransactions, the currency its rates convert into, or a currency with
fxRateToBase 1), New York time, corporate actions as booked. Names and aliases are not kept;
descriptions of payments are notes.

Without an account asked for, a line belongs to its statement's account, and a line of another one
(F05:10) is listed; with one asked for, so are all lines of others. A statement without an account
of its own, or `-`, is one over several: each line is of the account that it names.

Times without a zone are New York's unless the options say otherwise.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final, assert_never

from msgspec import Struct

from api.importing.flex_actions import read_action
from api.importing.flex_cash import read_cash, read_opening, read_rate
from api.importing.flex_groups import Groups, Leg
from api.importing.flex_rows import NEW_YORK, Row, listed
from api.importing.flex_trades import Trades
from api.importing.flex_xml import ROOT, Broken, Closed, Opened, elements
from api.importing.lines import Fact, Line, Listed, Options, Ordinals, Problem
from domain import times
from domain.currencies import CURRENCIES
from domain.errors import InvalidValue, shorten
from domain.identifiers import check_id

_BOOKED: Final = frozenset(
    ("Trade", "CashTransaction", "CorporateAction", "CashReportCurrency", "ConversionRate")
)
_FRAMES: Final = frozenset((ROOT, "FlexStatements", "FlexStatement"))
_SUMMARY: Final = "a summary of executions, which are booked one by one"
_ACCRUED: Final = "accrued, not paid: it is booked when it is paid"
_AGAIN: Final = "tells again what trades and cash transactions tell"
_REASONS: Final = {
    "AccountInformation": "settings of the account, used when it is opened; names are not kept",
    "AssetSummary": _SUMMARY,
    "SymbolSummary": _SUMMARY,
    "Order": _SUMMARY,
    "Lot": "a lot that a trade closes: lots are the ledger's own",
    "FxTransaction": _AGAIN,
    "FxLot": _AGAIN,
    "StatementOfFundsLine": _AGAIN,
    "TransactionTax": _AGAIN,
    "ChangeInDividendAccrual": _ACCRUED,
    "OpenDividendAccrual": _ACCRUED,
    "InterestAccrualsCurrency": _ACCRUED,
    "OpenPosition": "what is held at the end, which follows from what is booked",
}
_NOT_BOOKED: Final = "not a kind of line that is booked"


def read_flex(path: str, options: Options) -> Iterator[Line]:
    """Yield what a Flex file holds, line by line; raises UnreadableFile.

    Lines that move together come at the end of their section. A file that breaks off is a problem
    where it does; what came whole before that is yielded.
    """
    try:
        zone = options.zone or NEW_YORK
        times.zone(zone, "zone")
        if options.account is not None:
            check_id(options.account, "account")
    except InvalidValue as error:
        yield _problem(1, error)
        return
    frame = _Frame(options, zone, _base_currencies(path), {})
    reader = _Statement({}, frame)
    for element in elements(path):
        match element:
            case Opened(tag="FlexStatement"):
                reader = _Statement(element.fields, frame)
            case Opened():
                yield from reader.take(element)
            case Closed():
                yield from reader.close(element)
            case Broken():
                yield from reader.groups.abandon()
                yield Problem(element.line, element.field, element.value, element.reason)
            case _:
                assert_never(element)


def _problem(line: int, error: InvalidValue) -> Problem:
    return Problem(line, error.field, error.value, f"expected {error.expected}")


class _Frame(Struct, frozen=True):
    """What holds for a whole file.

    `bases` are the base currencies of its accounts, `openers` the statements whose opening cash is
    that of an account: the first in the file.
    """

    options: Options
    zone: str
    bases: dict[str, str]
    openers: dict[str, "_Statement"]


class _Statement:
    """Reads the lines of one FlexStatement."""

    def __init__(self, fields: dict[str, str], frame: _Frame) -> None:
        self.groups = Groups()
        self._fields = fields
        self._account = _named_account(fields)
        self._frame = frame
        self._ordinals = Ordinals()
        self._trades = Trades(self._ordinals)

    def take(self, element: Opened) -> Iterator[Line]:
        """Yield what a line says, if the element is one and does not wait for others."""
        if element.tag in _FRAMES or not (element.fields or element.tag in _BOOKED):
            return
        try:
            read = self._read(element)
            if isinstance(read, Leg):
                yield from self.groups.add(read, self._ordinals)
            else:
                yield read
        except InvalidValue as error:
            yield _problem(element.line, error)

    def close(self, element: Closed) -> Iterator[Line]:
        """Yield the lines that waited for the others of their section, when it ends."""
        if element.tag not in _BOOKED:
            yield from self.groups.close(self._ordinals)

    def _read(self, element: Opened) -> Fact | Listed | Leg:
        row = self._row(element)
        if row.tag not in _BOOKED:
            return listed(row, _REASONS.get(row.tag, _NOT_BOOKED))
        asked = self._frame.options.account or self._account or row.account
        if row.account != asked:
            return listed(row, f"of account {shorten(row.account)}; asked for is {shorten(asked)}")
        check_id(row.account, "accountId")
        match row.tag:
            case "Trade":
                return self._trades.read(row)
            case "CashTransaction":
                return read_cash(row, self._ordinals)
            case "CorporateAction":
                return read_action(row)
            case "CashReportCurrency":
                if self._frame.openers.setdefault(row.account, self) is not self:
                    return listed(row, "an earlier statement of the file told what it began with")
                return read_opening(row, self._fields.get("fromDate"))
            case _:
                return read_rate(row)

    def _row(self, element: Opened) -> Row:
        account = (
            _named_account(element.fields) or self._account or self._frame.options.account or ""
        )
        return Row(
            line=element.line,
            tag=element.tag,
            fields=element.fields,
            account=account,
            base_currency=self._frame.bases.get(account, "USD"),
            zone=self._frame.zone,
            digest=self._frame.options.digest,
        )


def _named_account(fields: dict[str, str]) -> str:
    account = fields.get("accountId", "").strip()
    return "" if account == "-" else account


def _base_currencies(path: str) -> dict[str, str]:
    """Return the base currency of every account that a file tells one of, by the surest line."""
    found: dict[str, tuple[int, str]] = {}
    statement = ""
    for element in elements(path):
        if not isinstance(element, Opened):
            continue
        fields = element.fields
        if element.tag == "FlexStatement":
            statement = _named_account(fields)
        told = _told_base(element)
        if told is not None and told[1] in CURRENCIES:
            account = _named_account(fields) or statement
            found[account] = min(told, found.get(account, told), key=lambda each: each[0])
    return {account: currency for account, (_, currency) in found.items()}


def _told_base(element: Opened) -> tuple[int, str] | None:
    """Return the base currency that a line tells and how sure it is, 0 the surest."""
    fields = element.fields
    if element.tag == "AccountInformation":
        return 0, fields.get("currency", "")
    if element.tag == "FxTransaction":
        return 1, fields.get("functionalCurrency", "")
    if element.tag == "ConversionRate":
        return 2, fields.get("toCurrency", "")
    try:
        rate_is_one = Decimal(fields.get("fxRateToBase", "0")) == 1
    except ArithmeticError:
        return None
    return (3, fields.get("currency", "")) if rate_is_one else None
