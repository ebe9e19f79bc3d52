"""Random commands about a few accounts: facts, orders, transfers; repeats, conflicts, refusals."""

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from domain.commands import (
    BustDeal,
    CancelOrder,
    CloseAccount,
    Command,
    MoveCash,
    OpenAccount,
    PlaceOrder,
    RecordDeal,
    Request,
    ReverseCash,
    SendTransfer,
)
from domain.events import CashLeg
from domain.times import from_ns, to_ns
from tests.streams.requests import NOON

INSTRUMENT: Final = "X"
_NOON_NS: Final = to_ns(NOON)
_QUANTITIES: Final = tuple(Decimal(text) for text in ("1", "2", "2.50", "7", "10"))
_PRICES: Final = tuple(Decimal(text) for text in ("10", "9.99", "33.333333", "3"))
_AMOUNTS: Final = tuple(Decimal(text) for text in ("1", "2.50", "-3", "0.01", "7"))


class Load:
    """Makes requests. Ids come from few, so that facts are told again, and told otherwise."""

    def __init__(self, rng: random.Random, accounts: Sequence[str], prefix: str = "c") -> None:
        self._rng = rng
        self._accounts = accounts
        self._prefix = prefix
        self._made = 0
        self._kinds: tuple[Callable[[str], Command], ...] = (
            *(self._deal,) * 8,
            *(self._cash,) * 6,
            *(self._transfer,) * 5,
            *(self._order,) * 4,
            *(self._cancel,) * 2,
            *(self._reversal,) * 2,
            *(self._bust,) * 2,
            *(self._open,) * 2,
        )

    def new(self) -> Request:
        """Return a request with an id that was not used before."""
        self._made += 1
        account = self._rng.choice(self._accounts)
        if self._made <= len(self._accounts) // 2 + 1:
            account = self._accounts[self._made - 1]
            return self._request(account, self._open(account))
        if self._rng.random() < 0.002:
            return self._request(account, CloseAccount())
        return self._request(account, self._rng.choice(self._kinds)(account))

    def other(self, first: Request) -> Request:
        """Return a request under the id of another one, with other content."""
        command = self._cash(first.key)
        return Request(
            command_id=first.command_id,
            key=first.key,
            event_time=from_ns(_NOON_NS + 10**15),
            command=command,
        )

    def _request(self, account: str, command: Command) -> Request:
        second = self._rng.randrange(100)
        return Request(
            command_id=f"{self._prefix}{self._made}",
            key=account,
            event_time=from_ns(_NOON_NS + second * 10**9),
            command=command,
        )

    def _id(self, prefix: str) -> str:
        return f"{prefix}{self._rng.randrange(self._made // 3 + 1)}"

    def _open(self, _: str) -> Command:
        return OpenAccount(base_currency="USD")

    def _deal(self, _: str) -> Command:
        rng = self._rng
        return RecordDeal(
            deal_id=self._id("d"),
            instrument=rng.choice((INSTRUMENT, INSTRUMENT, "unknown")),
            side=rng.choice(("buy", "buy", "sell")),
            quantity=rng.choice(_QUANTITIES),
            price=rng.choice(_PRICES),
            currency="USD",
            order_id=rng.choice((None, self._id("o"))),
        )

    def _bust(self, _: str) -> Command:
        return BustDeal(deal_id=self._id("b"), ref_deal_id=self._id("d"))

    def _cash(self, _: str) -> Command:
        amount = self._rng.choice(_AMOUNTS)
        return MoveCash(cash_id=self._id("k"), kind="deposit", amount=amount, currency="USD")

    def _reversal(self, _: str) -> Command:
        return ReverseCash(cash_id=self._id("r"), ref_cash_id=self._id("k"))

    def _order(self, _: str) -> Command:
        return PlaceOrder(
            order_id=self._id("o"),
            instrument=INSTRUMENT,
            side="buy",
            quantity=self._rng.choice(_QUANTITIES),
            order_type="market",
        )

    def _cancel(self, _: str) -> Command:
        return CancelOrder(order_id=self._id("o"))

    def _transfer(self, account: str) -> Command:
        """Some go to the sender itself, to nobody, or move nothing: those are refused."""
        return SendTransfer(
            transfer_id=f"{account}{self._id('t')}",
            to_account=self._rng.choice(self._accounts),
            cash=(CashLeg(currency="USD", amount=self._rng.choice(_AMOUNTS)),),
        )
