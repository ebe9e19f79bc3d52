"""Trades of a Flex statement: deals, busts, and the option exercises that are no deals.

`tradeID` is the deal's id. IBKR cancels a trade by a line with `origTradeID`, and books what
takes its place under the tradeID of the old one: that is told apart by its transactionID.
ibOrderID stays among `ids` and is no `order_id`: the statement does not tell of orders, and every
deal would be flagged as of an unknown one. Purchase accrued interest is booked from its own line
of cash (Bond Interest), not from the trade, whose netCash is without it.

Amounts: `gross` is tradeMoney, `net` is netCash, both as told. An exchange of currencies has no
net: IBKR tells 0. Where a trade tells only its cost (F12:8), the price is null and the net is the
cost taken from the account: the cost of what opens a position is its gross amount with commission
and taxes, as in every line that tells both (F01:5: 1356.75 = 1350 + 6.75). The cost of a closing
trade is that of the lots it closes, and no amount of the trade: that alone is a problem.

Commissions and taxes settle on the trade date: so says the settled cash of F14:6-7.
"""

import re
from decimal import Decimal
from typing import Final, Literal

import msgspec
from msgspec import Struct

from api.importing.flex_groups import Leg
from api.importing.flex_instruments import Named, traded
from api.importing.flex_rows import Moment, Row, end_of, fact, known_ids, listed
from api.importing.lines import Fact, Listed, Ordinals
from domain.commands import BustDeal, CorrectDeal, RecordDeal
from domain.deal_amounts import at_cost_scale
from domain.errors import InvalidValue
from domain.events import CashLeg, Fee, LotTold, MovementReason, Side, UnitLeg
from domain.identifiers import check_id
from domain.money import EXACT, ZERO, add, multiply
from domain.times import Day

_IDS: Final = (
    "tradeID",
    "transactionID",
    "ibExecID",
    "ibOrderID",
    "brokerageOrderID",
    "exchOrderId",
    "orderReference",
)
_REASONS: Final[dict[str, MovementReason]] = {
    "A": "assignment",
    "Ex": "exercise",
    "AEx": "exercise",
    "MEx": "exercise",
    "Ep": "expiry",
}
_EFFECTS: Final[dict[str, Literal["open", "close", "both"]]] = {
    "O": "open",
    "C": "close",
    "C;O": "both",
    "O;C": "both",
}
_CONTENT: Final = (
    *("conid", "symbol", "isin", "buySell", "quantity"),
    *("currency", "tradePrice", "tradeMoney", "proceeds", "netCash", "cost", "ibCommission"),
)
_CENT: Final = Decimal("0.005")


class Amounts(Struct, frozen=True):
    """What a trade tells: `gross` signed like quantity x price, `net` into the account positive."""

    price: Decimal | None
    gross: Decimal | None
    net: Decimal | None
    fees: tuple[Fee, ...]
    flags: tuple[str, ...] = ()


class Trades:
    """Reads the trades of one statement. Remembers the ids of those that it cancels, no more."""

    def __init__(self, ordinals: Ordinals) -> None:
        self._ordinals = ordinals
        self._cancelled: set[str] = set()

    def read(self, row: Row) -> Fact | Listed | Leg:
        """Return what a trade's line says; raises InvalidValue."""
        level = row.text("levelOfDetail")
        if level not in (None, "EXECUTION"):
            return listed(row, f"{level}: executions are booked one by one")
        instrument = traded(row)
        at = row.moment()
        codes = _codes(row)
        if "Ca" in codes:
            original = self._cancelled_id(row)
            if original is None:
                return self._deal(row, instrument, at, codes, "cancels_unnamed_deal")
            return self._bust(row, at, original)
        reason = next((_REASONS[code] for code in _REASONS if code in codes), None)
        booked = row.text("transactionType") in (None, "BookTrade")
        if reason is not None and booked and instrument.kind != "future":
            return self._exercise(row, instrument, at, reason)
        return self._deal(row, instrument, at, codes)

    def _deal(
        self, row: Row, instrument: Named, at: Moment, codes: frozenset[str], *flags: str
    ) -> Fact:
        side = _side(row, "Ca" in codes)
        amounts = _amounts(row, instrument, side, at.day)
        deal = RecordDeal(
            deal_id=self._deal_id(row, at),
            instrument=instrument.instrument,
            side=side,
            quantity=_quantity(row).copy_abs(),
            currency=row.currency(),
            price=amounts.price,
            gross=amounts.gross,
            net=amounts.net,
            fees=amounts.fees,
            ids=_ids(row, at.day),
            identifiers=instrument.identifiers,
            trade_date=row.day("tradeDate") or at.day,
            booked_date=row.day("reportDate"),
            settlement_date=row.day("settleDateTarget"),
            effect=_EFFECTS.get(row.text("openCloseIndicator") or ""),
            trader=row.identifier("traderID"),
            venue=row.identifier("exchange"),
            kind=instrument.kind,
            multiplier=instrument.multiplier,
            price_unit=instrument.price_unit,
            time_precision=at.precision,
        )
        command = self._corrected(row, deal) if "Co" in codes else deal
        told = (*amounts.flags, *flags)
        return fact(row, command, at.instant, defines=instrument.defines, flags=told)

    def _corrected(self, row: Row, deal: RecordDeal) -> RecordDeal:
        """Return a correction of the trade that is named, unless that was cancelled already."""
        original = row.identifier("origTradeID")
        if original is None or original in self._cancelled:
            return deal
        told = msgspec.structs.asdict(deal)
        if deal.deal_id == original:
            told["deal_id"] = f"{original}/{row.identifier('transactionID') or 'corrected'}"
        return CorrectDeal(**told, ref_deal_id=original)

    def _cancelled_id(self, row: Row) -> str | None:
        """Return the id of the deal that a line cancels, None where it names none."""
        trade, transaction = row.identifier("origTradeID"), row.identifier("origTransactionID")
        if trade is not None:
            rebooked = trade in self._cancelled and transaction is not None
            return f"{trade}/{transaction}" if rebooked else trade
        if transaction is not None and row.identifier("tradeID") is None:
            return f"transaction/{transaction}"
        return None

    def _bust(self, row: Row, at: Moment, original: str) -> Fact:
        self._cancelled.add(original)
        booked_date = row.day("reportDate")
        content = (row.account, original, at.instant)
        bust = BustDeal(
            deal_id=_transaction(row) or self._ordinals.content_id("bust", *content),
            ref_deal_id=original,
            ids=_ids(row, at.day),
            booked_date=booked_date,
            action_time=end_of(row, booked_date).instant if booked_date else None,
            time_precision=at.precision,
        )
        return fact(row, bust, at.instant)

    def _exercise(self, row: Row, instrument: Named, at: Moment, reason: MovementReason) -> Leg:
        """Return a leg: the option that goes or what it delivers, at the cost that is told."""
        side = _side(row, cancels=False)
        amounts = _amounts(row, instrument, side, at.day)
        quantity, currency = _quantity(row), row.currency()
        deal_id = self._deal_id(row, at)
        gross = amounts.gross if amounts.gross is not None else _computed(row, instrument)
        cost = gross if quantity > 0 or gross is None else EXACT.minus(gross)
        lot = LotTold(lot=deal_id, quantity=quantity, opened_at=at.instant, cost=cost)
        paid = _paid(amounts, cost, currency)
        net = paid if amounts.net is None else amounts.net
        differs = net is not None and paid is not None and abs(EXACT.subtract(net, paid)) > _CENT
        cash = CashLeg(
            currency=currency, amount=net or ZERO, settlement_date=row.day("settleDateTarget")
        )
        return Leg(
            row=row,
            group=(reason, row.account, at.instant, _underlying(row, instrument)),
            reason=reason,
            at=at,
            movement_id=deal_id,
            booked_date=row.day("reportDate"),
            trade_date=row.day("tradeDate") or at.day,
            unit=UnitLeg(
                instrument=instrument.instrument, quantity=quantity, currency=currency, lots=(lot,)
            ),
            cash=cash if net else None,
            ids=_ids(row, at.day),
            identifiers=instrument.identifiers,
            defines=instrument.defines,
            flags=("net_differs",) if differs else (),
        )

    def _deal_id(self, row: Row, at: Moment) -> str:
        """Return the trade's id. One that takes the place of a cancelled trade gets another."""
        trade, transaction = row.identifier("tradeID"), row.identifier("transactionID")
        if trade is not None and trade not in self._cancelled:
            return trade
        if trade is not None:
            return f"{trade}/{transaction or 'rebooked'}"
        if transaction is not None:
            return f"transaction/{transaction}"
        told = (row.fields.get(name, "") for name in _CONTENT)
        return self._ordinals.content_id("deal", row.account, at.instant, *told)


def _transaction(row: Row) -> str | None:
    transaction = row.identifier("transactionID")
    return f"transaction/{transaction}" if transaction else None


def _codes(row: Row) -> frozenset[str]:
    codes = set(re.split(r"[;, ]+", row.text("notes") or ""))
    if row.text("transactionType") == "TradeCancel" or "(Ca.)" in (row.text("buySell") or ""):
        codes.add("Ca")
    if row.text("transactionType") == "TradeCorrect":
        codes.add("Co")
    return frozenset(codes)


def _ids(row: Row, day: Day) -> dict[str, str]:
    """Return all ids told; extExecID, the venue's, is unique for a day only (F01:8, 16, 17)."""
    ids = known_ids(row, _IDS)
    venue_id = row.identifier("extExecID")
    if venue_id is not None:
        ids["extExecID"] = check_id(f"{day}/{venue_id}", "extExecID")
    return ids


def _quantity(row: Row) -> Decimal:
    quantity = row.needed_number("quantity")
    if not quantity:
        raise InvalidValue("quantity", quantity, "a number other than zero")
    return quantity


def _side(row: Row, cancels: bool) -> Side:
    """Return the side by the sign of the quantity; the line of a cancel names the other one."""
    side: Side = "buy" if _quantity(row) > 0 else "sell"
    told = (row.text("buySell") or side).lower()
    if not cancels and not told.startswith(side):
        expected = "BUY for a positive quantity, SELL for a negative one"
        raise InvalidValue("buySell", row.fields["buySell"], expected)
    return side


def _amounts(row: Row, instrument: Named, side: Side, day: Day) -> Amounts:
    money, proceeds, net = row.number("tradeMoney"), row.number("proceeds"), row.number("netCash")
    if money is None and proceeds is not None:
        money = EXACT.minus(proceeds)
    gross = money if money is None or side == "buy" else EXACT.minus(money)
    price = row.number("tradePrice")
    fees = _fees(row, day)
    if instrument.kind == "fx":
        net = None
    if price is None and gross is None and net is None:
        return Amounts(price, gross, _net_from_cost(row), fees, ("net_from_cost",))
    return Amounts(price, gross, net, fees)


def _net_from_cost(row: Row) -> Decimal:
    cost = row.needed_number("cost")
    effect = row.text("openCloseIndicator")
    if effect == "O" or (effect is None and _side(row, cancels=False) == "buy"):
        return EXACT.minus(cost)
    raise InvalidValue(
        "netCash",
        "",
        "tradePrice, tradeMoney, proceeds or netCash: the cost of a "
        "closing trade is that of the lots it closes",
    )


def _fees(row: Row, day: Day) -> tuple[Fee, ...]:
    """Return commission and taxes, positive for a cost: IBKR tells them as cash, negative."""
    currency = row.currency()
    commission, taxes = row.number("ibCommission"), row.number("taxes")
    paid_in = row.currency("ibCommissionCurrency") if row.text("ibCommissionCurrency") else currency
    told = (("commission", commission, paid_in), ("tax", taxes, currency))
    return tuple(
        Fee(kind=kind, amount=EXACT.minus(amount), currency=code, settlement_date=day)
        for kind, amount, code in told
        if amount
    )


def _computed(row: Row, instrument: Named) -> Decimal | None:
    price = row.number("tradePrice")
    if price is None:
        return None
    units = (_quantity(row).copy_abs(), instrument.multiplier, instrument.price_unit)
    return at_cost_scale(multiply(price, *units))


def _paid(amounts: Amounts, cost: Decimal | None, currency: str) -> Decimal | None:
    """Return the cash that cost and fees come to, None where no cost is told."""
    if cost is None:
        return None
    fees = (fee.amount for fee in amounts.fees if fee.currency == currency)
    return EXACT.minus(add((cost, *fees)))


def _underlying(row: Row, instrument: Named) -> str:
    underlying = row.identifier("underlyingConid")
    is_option = instrument.kind == "option" and underlying is not None
    return f"conid:{underlying}" if is_option else instrument.instrument
