"""Requests for tests, made short."""

from decimal import Decimal
from typing import Any

from domain.commands import (
    DefineInstrument,
    MoveCash,
    OpenAccount,
    RecordDeal,
    RecordPrice,
    Request,
    SendTransfer,
)
from domain.events import CashLeg, UnitLeg
from domain.times import Instant

NOON = Instant("2024-01-02T12:00:00.000000000Z")


def request(command_id: str, key: str, command: Any, **told: Any) -> Request:
    return Request(command_id=command_id, key=key, event_time=NOON, command=command, **told)


def open_account(account: str, command_id: str | None = None) -> Request:
    return request(command_id or f"open {account}", account, OpenAccount(base_currency="USD"))


def define(instrument: str, **fields: Any) -> Request:
    return request(f"define {instrument} {fields}", instrument, DefineInstrument(**fields))


def deal(command_id: str, account: str, deal_id: str, quantity: str = "10") -> Request:
    command = RecordDeal(
        deal_id=deal_id,
        instrument="AAPL",
        side="buy",
        quantity=Decimal(quantity),
        price=Decimal("185.50"),
        currency="USD",
    )
    return request(command_id, account, command)


def cash(command_id: str, account: str, cash_id: str, amount: str = "1") -> Request:
    command = MoveCash(cash_id=cash_id, kind="deposit", amount=Decimal(amount), currency="USD")
    return request(command_id, account, command)


def price(command_id: str, instrument: str, told: str = "1") -> Request:
    return request(command_id, instrument, RecordPrice(price=Decimal(told), currency="USD"))


def send(command_id: str, account: str, transfer_id: str, to: str, units: str = "") -> Request:
    legs = (UnitLeg(instrument="AAPL", quantity=Decimal(units), currency="USD"),) if units else ()
    paid = () if units else (CashLeg(currency="USD", amount=Decimal(5)),)
    command = SendTransfer(transfer_id=transfer_id, to_account=to, cash=paid, legs=legs)
    return request(command_id, account, command)
