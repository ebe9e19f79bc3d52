"""Currencies that money may be in. Hundredths such as GBX are units of a price, not money."""

from decimal import Decimal
from typing import Final

from domain.errors import InvalidValue

# ISO 4217 list one (active codes, 2025) with precious metals, and withdrawn codes that old
# statements still carry. Source: https://www.iso.org/iso-4217-currency-codes.html
_ISO: Final = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP
BYN BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR
FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES
KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR
MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF
SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS
UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAD XAF XAG XAU XCD XCG XDR XOF XPD XPF XPT
XSU XUA YER ZAR ZMW ZWG
ATS BEF BYR CSD CYP DEM EEK ESP FIM FRF GRD HRK IEP ITL LTL LUF LVL MTL NLG PTE ROL SIT SKK SLL
TRL VEB VEF YUM ZMK ZWL CNH
"""
_CRYPTO: Final = "BTC ETH USDT USDC BUSD DAI TUSD FDUSD XBT BNB SOL XRP ADA DOGE LTC BCH DOT TRX"
_UNITS_OF: Final = {"GBX": "GBP", "GBp": "GBP", "ZAc": "ZAR", "ZAC": "ZAR", "ILA": "ILS"}

CURRENCIES: Final = frozenset(_ISO.split()) | frozenset(_CRYPTO.split())


def check_currency(code: str, field: str) -> str:
    """Return a currency that money may be in; raises InvalidValue for others and for hundredths."""
    if code in CURRENCIES:
        return code
    if code in _UNITS_OF:
        expected = f"{_UNITS_OF[code]}: {code} is a hundredth of it, a unit of prices and not money"
        raise InvalidValue(field, code, expected)
    raise InvalidValue(field, code, "an ISO 4217 currency such as USD, or a listed crypto currency")


def price_unit_of(code: str) -> tuple[str, Decimal] | None:
    """Return the main currency and the unit of a price code: GBX is GBP by 1/100; None if not one.

    Case is kept: GBp is pence where GBP is pounds.
    """
    if code in CURRENCIES:
        return code, Decimal(1)
    if code in _UNITS_OF:
        return _UNITS_OF[code], Decimal("0.01")
    return None
