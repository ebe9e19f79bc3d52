"""The instrument a line of a Flex statement names: its permanent id, identifiers and terms.

The id is `conid:` and IBKR's contract id, which never changes and is never given again; symbols
do. Without one it is the ISIN, FIGI, CUSIP or symbol. A pair of currencies is `CHF/USD`, as rates
are named. Old statements call exchange-traded funds STK without a subCategory: they are equities.
"""

import re
from decimal import Decimal
from typing import Final, Literal

from msgspec import Struct

from api.importing.flex_rows import Defines, Row
from domain.commands import DefineInstrument
from domain.currencies import check_currency
from domain.errors import InvalidValue
from domain.events import InstrumentKind
from domain.identifiers import check_id

_KINDS: Final[dict[str, InstrumentKind]] = {
    "STK": "equity",
    "FUND": "fund",
    "OPT": "option",
    "FOP": "option",
    "WAR": "option",
    "IOPT": "option",
    "FUT": "future",
    "BOND": "bond",
    "BILL": "bond",
    "CASH": "fx",
    "CRYPTO": "crypto",
    "IND": "index",
}
# IBKR's names of listing exchanges, by ISO 10383; one that is not here has no mic.
_MICS: Final = {
    "AEB": "XAMS",
    "AMEX": "XASE",
    "ARCA": "ARCX",
    "ASX": "XASX",
    "BATS": "BATS",
    "BM": "XMAD",
    "BVME": "XMIL",
    "CBOE": "XCBO",
    "CME": "XCME",
    "EBS": "XSWX",
    "FWB": "XFRA",
    "IBIS": "XETR",
    "IBIS2": "XETR",
    "LSE": "XLON",
    "LSEETF": "XLON",
    "NASDAQ": "XNAS",
    "NYSE": "XNYS",
    "SBF": "XPAR",
    "SEHK": "XHKG",
    "SFB": "XSTO",
    "TSE": "XTSE",
    "TSEJ": "XTKS",
    "VENTURE": "XTSX",
    "VSE": "XWBO",
}
_RIGHTS: Final[dict[str, Literal["call", "put"]]] = {"C": "call", "P": "put"}
_PAIR: Final = re.compile(r"([A-Z]{3,4})[./]([A-Z]{3,4})", re.ASCII)
_SCHEMES: Final = ("conid", "isin", "figi", "cusip", "symbol")
_PERCENT: Final = Decimal("0.01")
_ONE: Final = Decimal(1)


class Named(Struct, frozen=True):
    """An instrument as a line names it; `kind` is None where the line does not say one we know."""

    instrument: str
    kind: InstrumentKind | None
    identifiers: dict[str, str]
    defines: Defines
    multiplier: Decimal = _ONE
    price_unit: Decimal = _ONE


def named(row: Row) -> Named | None:
    """Return the instrument a line is about, None where it is about none. Raises InvalidValue."""
    kind = _kind(row)
    identifiers = _identifiers(row)
    if kind == "fx":
        return _pair(row, identifiers)
    if not identifiers.keys() - {"mic"}:
        return None
    scheme = next(name for name in _SCHEMES if name in identifiers)
    instrument = check_id(f"{scheme}:{identifiers[scheme]}", scheme)
    if kind is None:
        return Named(instrument, None, identifiers, ())
    multiplier = row.number("multiplier") or _ONE
    price_unit = _PERCENT if kind == "bond" else _ONE
    terms = _terms(row, kind, identifiers, multiplier, price_unit)
    return Named(instrument, kind, identifiers, ((instrument, terms),), multiplier, price_unit)


def traded(row: Row) -> Named:
    """Return the instrument a trade is in; raises InvalidValue where it says none, or no kind."""
    found = named(row)
    if found is None:
        raise InvalidValue("conid", "", "a conid, isin, figi, cusip or symbol")
    if found.kind is None:
        category = row.fields.get("assetCategory", "")
        raise InvalidValue("assetCategory", category, f"one of {', '.join(_KINDS)}")
    return found


def pair(base: str, quote: str, conid: str | None = None) -> tuple[str, Defines]:
    """Return the instrument of an exchange rate, and its definition."""
    instrument = f"{base}/{quote}"
    terms = DefineInstrument(kind="fx", currency=quote, symbol=f"{base}.{quote}", conid=conid)
    return instrument, ((instrument, terms),)


def _pair(row: Row, identifiers: dict[str, str]) -> Named:
    symbol = row.text("symbol") or ""
    match = _PAIR.fullmatch(symbol)
    if match is None:
        raise InvalidValue("symbol", symbol, "a pair of currencies such as CHF.USD")
    base, quote = (check_currency(code, "symbol") for code in match.groups())
    if row.currency() != quote:
        raise InvalidValue("currency", row.currency(), f"{quote}, the second of {symbol}")
    instrument, defines = pair(base, quote, identifiers.get("conid"))
    return Named(instrument, "fx", identifiers, defines)


def _kind(row: Row) -> InstrumentKind | None:
    if row.text("subCategory") == "ETF":
        return "etf"
    return _KINDS.get(row.text("assetCategory") or "")


def _identifiers(row: Row) -> dict[str, str]:
    told = {name: row.identifier(name) for name in _SCHEMES}
    scheme = (row.text("securityIDType") or "").lower()
    if scheme in told and told[scheme] is None:
        told[scheme] = row.identifier("securityID")
    told["mic"] = _MICS.get(row.text("listingExchange") or "")
    return {name: value for name, value in told.items() if value is not None}


def _terms(
    row: Row,
    kind: InstrumentKind,
    identifiers: dict[str, str],
    multiplier: Decimal,
    price_unit: Decimal,
) -> DefineInstrument:
    underlying = row.identifier("underlyingConid")
    return DefineInstrument(
        kind=kind,
        currency=row.currency(),
        symbol=identifiers.get("symbol"),
        mic=identifiers.get("mic"),
        isin=identifiers.get("isin"),
        figi=identifiers.get("figi"),
        conid=identifiers.get("conid"),
        multiplier=multiplier,
        price_unit=price_unit,
        expiry=row.day("expiry"),
        strike=row.number("strike"),
        right=_RIGHTS.get(row.text("putCall") or ""),
        underlying=check_id(f"conid:{underlying}", "underlyingConid") if underlying else None,
        country=row.text("issuerCountryCode"),
    )
