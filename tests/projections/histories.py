"""Random commands about two accounts, in any order of arrival, for property tests."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from domain.commands import (
    AmendDealTerms,
    AssignLots,
    BustDeal,
    CancelOrder,
    Command,
    CorrectDeal,
    DefineInstrument,
    MoveCash,
    MovePosition,
    OpenAccount,
    PlaceOrder,
    ReceiveTransfer,
    RecordDeal,
    RecordFees,
    ReportOrderCanceled,
    ReturnTransfer,
    ReverseCash,
    ReversePositionMove,
    SendTransfer,
)
from domain.events import CashLeg, Fee, LotPick, LotTold, Terms, UnitLeg
from tests.domain.journal import Journal, at

ACCOUNTS = ("A1", "A2")
_TIMES = st.integers(0, 8)
_AMOUNTS = st.sampled_from([Decimal(text) for text in ("1", "2.50", "-3", "0.01", "7", "0")])
_QUANTITIES = st.sampled_from([Decimal(text) for text in ("1", "2", "3", "0.5", "7.25", "10")])
_PRICES = st.sampled_from([Decimal(text) for text in ("10", "9.99", "-1.5", "0", "33.333333", "3")])
_CURRENCIES = st.sampled_from(("USD", "USD", "EUR"))
_DAYS = st.sampled_from((None, None, "2024-01-04", "2024-01-05"))
_INSTRUMENTS = st.sampled_from(("X", "X", "X", "Y", "F", "EUR/USD", "Z", "Z"))
_UNITS = st.sampled_from(("X", "X", "Y"))


def _ids(prefix: str, size: int) -> st.SearchStrategy[str]:
    return st.integers(0, size).map(lambda n: f"{prefix}{n}")


_DEAL_IDS = _ids("d", 7)
_CORRECTIONS = _ids("c", 4)
_CHAIN_IDS = st.one_of(_DEAL_IDS, _DEAL_IDS, _CORRECTIONS)


@st.composite
def _fees(draw: Any, sizes: tuple[int, int] = (0, 2)) -> tuple[Fee, ...]:
    return tuple(
        Fee(
            kind="commission",
            amount=draw(_AMOUNTS),
            currency=draw(_CURRENCIES),
            settlement_date=draw(_DAYS),
        )
        for _ in range(draw(st.integers(*sizes)))
    )


@st.composite
def _deal(draw: Any, kind: type[RecordDeal] = RecordDeal, **more: Any) -> RecordDeal:
    told: dict[str, Any] = {
        "deal_id": draw(_DEAL_IDS if kind is RecordDeal else _CORRECTIONS),
        "instrument": draw(_INSTRUMENTS),
        "side": draw(st.sampled_from(("buy", "buy", "sell"))),
        "quantity": draw(_QUANTITIES),
        "price": draw(_PRICES),
        "currency": draw(_CURRENCIES),
        "sequence": draw(st.integers(0, 1)),
        "settlement_date": draw(_DAYS),
        "fees": draw(st.one_of(st.just(()), _fees())),
        "order_id": draw(st.sampled_from((None, None, "o0", "o1"))),
    }
    if draw(st.integers(0, 5)) == 0:
        told["lots"] = (LotPick(lot=draw(_DEAL_IDS), quantity=draw(_QUANTITIES)),)
    if draw(st.integers(0, 9)) == 0:
        told["net"] = draw(_AMOUNTS)
    return kind(**told, **{name: draw(strategy) for name, strategy in more.items()})


@st.composite
def _movement(draw: Any) -> MovePosition:
    legs = tuple(draw(_leg()) for _ in range(draw(st.integers(0, 2))))
    cash = tuple(
        CashLeg(currency=draw(_CURRENCIES), amount=draw(_AMOUNTS))
        for _ in range(draw(st.integers(0, 1)))
    )
    reasons = ("opening", "corporate_action", "expiry", "adjustment", "allocation")
    return MovePosition(
        movement_id=draw(_ids("m", 4)),
        reason=draw(st.sampled_from(reasons)),
        legs=legs,
        cash=cash,
        sequence=draw(st.integers(0, 1)),
    )


@st.composite
def _leg(draw: Any, moves: str = "either way") -> UnitLeg:
    quantity = draw(_QUANTITIES)
    sign = draw(st.sampled_from((1, -1))) if moves == "either way" else 1
    lots = ()
    if draw(st.integers(0, 2)) == 0:
        cost = draw(st.sampled_from((None, Decimal("12.5"))))
        lot = draw(st.sampled_from(("d0", "d1", "L1")))
        part = sign * draw(st.sampled_from((quantity, quantity, Decimal(0))))
        signed_cost = None if cost is None else sign * cost
        lots = (LotTold(lot=lot, quantity=part, opened_at=at(1), cost=signed_cost),)
        if moves == "out":
            lots = (LotTold(lot=lot, quantity=part),)
    return UnitLeg(instrument=draw(_UNITS), quantity=sign * quantity, currency="USD", lots=lots)


def _transfer(kind: Callable[..., Command], **other: str) -> st.SearchStrategy[Command]:
    return st.builds(
        kind,
        transfer_id=_ids("t", 2),
        cash=st.one_of(
            st.just(()),
            st.tuples(st.just(CashLeg(currency="USD", amount=Decimal("5.00")))),
        ),
        legs=st.one_of(st.just(()), st.tuples(_leg(moves="out" if kind is SendTransfer else "in"))),
        **{name: st.just(value) for name, value in other.items()},
    )


def _orders() -> st.SearchStrategy[Command]:
    placed = st.builds(
        PlaceOrder,
        order_id=_ids("o", 1),
        instrument=st.just("X"),
        side=st.just("buy"),
        quantity=_QUANTITIES,
        order_type=st.just("market"),
    )
    cancel = st.builds(CancelOrder, order_id=_ids("o", 1))
    canceled = st.builds(ReportOrderCanceled, order_id=_ids("o", 1))
    return st.one_of(placed, placed, cancel, canceled)


_TERMS = st.sampled_from(
    (
        Terms(multiplier=Decimal(10)),
        Terms(kind="future", cash_style="margined", multiplier=Decimal(5)),
        Terms(kind="fx", base_currency="EUR"),
    )
)
_CASH_IDS = _ids("k", 3)

_WEIGHTED: list[tuple[int, st.SearchStrategy[Command]]] = [
    (14, _deal()),
    (4, _deal(CorrectDeal, ref_deal_id=_CHAIN_IDS)),
    (2, st.builds(BustDeal, deal_id=_ids("b", 3), ref_deal_id=_CHAIN_IDS)),
    (2, st.builds(RecordFees, fee_id=_ids("f", 3), deal_id=_CHAIN_IDS, fees=_fees((1, 2)))),
    (2, st.builds(AmendDealTerms, deal_id=_CHAIN_IDS, terms=_TERMS)),
    (
        1,
        st.builds(
            AssignLots,
            deal_id=_CHAIN_IDS,
            lots=st.tuples(st.builds(LotPick, lot=_DEAL_IDS, quantity=st.just(Decimal("0.5")))),
        ),
    ),
    (4, _movement()),
    (1, st.builds(ReversePositionMove, movement_id=_ids("n", 2), ref_movement_id=_ids("m", 4))),
    (
        2,
        st.builds(
            MoveCash,
            cash_id=_CASH_IDS,
            kind=st.just("dividend"),
            amount=_AMOUNTS,
            currency=_CURRENCIES,
            settlement_date=_DAYS,
        ),
    ),
    (1, st.builds(ReverseCash, cash_id=_ids("r", 2), ref_cash_id=_CASH_IDS)),
    (1, _transfer(SendTransfer, to_account="A9")),
    (1, _transfer(ReceiveTransfer, from_account="A9")),
    (1, _transfer(ReturnTransfer, to_account="A9", reason="refused")),
    (
        1,
        st.builds(
            OpenAccount,
            base_currency=st.just("USD"),
            method=st.sampled_from(("fifo", "lifo", "hifo", "average", "specific")),
            fees=st.sampled_from(("expensed", "capitalised")),
        ),
    ),
    (3, _orders()),
]
COMMANDS: st.SearchStrategy[Command] = st.sampled_from(
    [strategy for weight, strategy in _WEIGHTED for _ in range(weight)]
).flatmap(lambda strategy: strategy)
HISTORIES = st.lists(
    st.tuples(COMMANDS, st.sampled_from(ACCOUNTS[:1] * 6 + ACCOUNTS[1:]), _TIMES),
    min_size=8,
    max_size=40,
)
History = list[tuple[Command, str, int]]


def play(history: History) -> Journal:
    """Decide a history in a journal with its accounts open and its instruments defined."""
    journal = Journal()
    for name, terms in {
        "X": DefineInstrument(),
        "Y": DefineInstrument(),
        "F": DefineInstrument(kind="future", multiplier=Decimal(50)),
        "EUR/USD": DefineInstrument(kind="fx"),
    }.items():
        journal.accept(terms, key=name)
    journal.accept(DefineInstrument(), key="Z", flags=("assumed",))
    for account in ACCOUNTS:
        journal.accept(OpenAccount(base_currency="USD"), key=account)
    for command, account, second in history:
        journal.submit(command, key=account, at_time=at(second))
    return journal
