"""One realistic event of each type, shaped like the lines of real statements.

`python -m tests.schemas.samples` writes the golden example of each type and version that has none
yet. One that is there is never written again: it stands for records that exist.
"""

import sys
from decimal import Decimal
from typing import Any

from domain import events as e
from domain.commands import Source
from domain.times import Day, Instant
from schemas.codec import CURRENT_VERSIONS, encode, event_type, record_hash
from schemas.publish import EXAMPLES
from schemas.registry import CONTROL_TYPES, TYPES_OF
from tests.schemas.chains import LOG_ID, make_envelope

FILE_DIGEST = "9f64a747e1b97f131fabb6b447296c9b6f0201e79fb3c5356e6c77e89b6a806a"
DIGESTS = EXAMPLES / "SHA256SUMS"
"""The examples' hashes as they were when frozen; `sha256sum -c` reads it."""

_FILL: dict[str, Any] = {
    "time_precision": "second",
    "deal_id": "2013-04-01/0000d514.5159662d.01.01",
    "instrument": "conid:80845553",
    "side": "buy",
    "quantity": Decimal(5000),
    "currency": "CAD",
    "price": Decimal("0.27"),
    "gross": Decimal(1350),
    "net": Decimal("-1356.75"),
    "fees": (e.Fee(kind="commission", amount=Decimal("6.75"), currency="CAD"),),
    "order_id": "437137993",
    "ids": {"trade": "855937427", "exec": "0000d514.5159662d.01.01", "transaction": "3452745495"},
    "identifiers": {"symbol": "GCM", "isin": "CA38501D2041", "conid": "80845553"},
    "trade_date": Day("2013-04-01"),
    "booked_date": Day("2013-04-01"),
    "settlement_date": Day("2013-04-04"),
    "effect": "open",
    "venue": "TSE",
    "terms": e.Terms(),
    "cost": Decimal(1350),
    "legs": (
        e.CashLeg(currency="CAD", amount=Decimal("-1356.75"), settlement_date=Day("2013-04-04")),
    ),
}
_REPORT: dict[str, Any] = {
    "time_precision": "milli",
    "order_id": "2024-01-02/a1",
    "cl_ord_id": "a2",
    "orig_cl_ord_id": "a1",
    "ids": {"order": "X-7781"},
}
_OPEN_TOLD = e.OrderTold(
    status="new",
    cum_quantity=Decimal(0),
    leaves_quantity=Decimal(300),
    average_price=Decimal(0),
)
_LEG = e.UnitLeg(
    instrument="conid:265598",
    quantity=Decimal(100),
    currency="USD",
    lots=(
        e.LotTold(
            lot="2019-05-13/7",
            quantity=Decimal(100),
            opened_at=Instant("2019-05-13T14:31:05.000000000Z"),
            cost=Decimal("18572.0015"),
        ),
    ),
)
_USD = (e.CashLeg(currency="USD", amount=Decimal("2500.00")),)

SAMPLES: dict[str, tuple[str | None, e.Event]] = {
    event_type(event): (key, event)
    for key, event in (
        (
            "U123456",
            e.AccountOpened(
                base_currency="CAD",
                from_date=Day("2013-01-02"),
                portfolio="growth",
                actions="booked",
                time_zone="America/New_York",
            ),
        ),
        ("U123456", e.AccountChanged(from_date=Day("2020-01-01"), method="average")),
        ("U123456", e.AccountClosed(reason="moved to U654321")),
        (
            "U123456",
            e.OrderPlaced(
                time_precision="milli",
                order_id="2024-01-02/a1",
                instrument="AAPL",
                side="sell",
                quantity=Decimal(300),
                order_type="limit",
                limit_price=Decimal("185.640"),
                time_in_force="gtd",
                expire_time=Instant("2024-01-31T21:00:00.000000000Z"),
                pending=True,
                cl_ord_id="a1",
                ids={"cl_ord": "a1"},
                trader="jd",
                strategy="rebalance",
                tags=("q1", "tax"),
            ),
        ),
        ("U123456", e.OrderPending(**_REPORT, what="replace", told=_OPEN_TOLD)),
        ("U123456", e.OrderAccepted(**_REPORT, told=_OPEN_TOLD)),
        ("U123456", e.OrderRejected(**_REPORT, reason="99: price too far from the market")),
        ("U123456", e.OrderCancelRequested(**_REPORT)),
        ("U123456", e.OrderCancelRefused(**_REPORT, reason="0: too late to cancel")),
        ("U123456", e.OrderCanceled(**_REPORT, quantity=Decimal(100))),
        (
            "U123456",
            e.OrderReplaceRequested(
                **_REPORT, quantity=Decimal(200), limit_price=Decimal("185.60")
            ),
        ),
        ("U123456", e.OrderReplaceRefused(**_REPORT, reason="1: unknown order")),
        (
            "U123456",
            e.OrderReplaced(
                **_REPORT,
                quantity=Decimal(200),
                limit_price=Decimal("185.60"),
                time_in_force="day",
            ),
        ),
        ("U123456", e.OrderDoneForDay(**_REPORT)),
        ("U123456", e.OrderExpired(**_REPORT, reason="good till date")),
        ("U123456", e.OrderSuspended(**_REPORT, reason="trading halt")),
        ("U123456", e.OrderStopped(**_REPORT)),
        ("U123456", e.OrderCalculated(**_REPORT)),
        ("U123456", e.OrderRestated(**_REPORT, quantity=Decimal(150), reason="2: repriced")),
        ("U123456", e.OrderAcceptedForBidding(**_REPORT)),
        ("U123456", e.DealRecorded(**_FILL)),
        (
            "U123456",
            e.DealCorrected(
                **(_FILL | {"deal_id": "2013-04-01/0000d514.5159662d.02.01"}),
                ref_deal_id="2013-04-01/0000d514.5159662d.01.01",
                chain_id="2013-04-01/0000d514.5159662d.01.01",
                action_time=Instant("2013-04-02T11:00:00.000000000Z"),
            ),
        ),
        (
            "U123456",
            e.DealBusted(
                time_precision="second",
                deal_id="2013-04-01/0000d514.5159662d.03.01",
                ref_deal_id="2013-04-01/0000d514.5159662d.02.01",
                chain_id="2013-04-01/0000d514.5159662d.01.01",
                action_time=Instant("2013-04-03T13:00:00.000000000Z"),
                ids={"trade": "855937427"},
                order_id="437137993",
                booked_date=Day("2013-04-03"),
            ),
        ),
        (
            "U123456",
            e.DealTermsAmended(
                time_precision="second",
                deal_id="2018-05-11/00014980.5af58682.01.01",
                chain_id="2018-05-11/00014980.5af58682.01.01",
                terms=e.Terms(kind="option", multiplier=Decimal(100)),
                cost=Decimal("1390.00"),
                legs=(
                    e.CashLeg(
                        currency="CAD",
                        amount=Decimal("-1390.8956"),
                        settlement_date=Day("2018-05-14"),
                    ),
                ),
            ),
        ),
        (
            "U123456",
            e.FeesRecorded(
                time_precision="day",
                fee_id="2018-05-14/clearing",
                deal_id="2018-05-11/00014980.5af58682.01.01",
                chain_id="2018-05-11/00014980.5af58682.01.01",
                fees=(e.Fee(kind="clearing", amount=Decimal("-0.00005528"), currency="USD"),),
                legs=(e.CashLeg(currency="USD", amount=Decimal("0.00005528")),),
                booked_date=Day("2018-05-14"),
            ),
        ),
        (
            "U123456",
            e.LotsAssigned(
                deal_id="2024-01-02/42",
                chain_id="2024-01-02/42",
                lots=(
                    e.LotPick(lot="2019-05-13/7", quantity=Decimal("99.5")),
                    e.LotPick(lot="2020-02-28/1", quantity=Decimal("0.5")),
                ),
            ),
        ),
        (
            "U123456",
            e.CashMoved(
                time_precision="day",
                cash_id="12085219346",
                kind="withholding",
                amount=Decimal("-5.875184563"),
                currency="USD",
                source_kind="Withholding Tax",
                booked_date=Day("2020-02-14"),
                settlement_date=Day("2020-02-14"),
                relates_to=e.Relation(date=Day("2019-05-20"), action_id="D-2019-05"),
                instrument="conid:8314",
                identifiers={"symbol": "IBM", "isin": "US4592001014"},
                ids={"transaction": "12085219346"},
                note_id="v-17",
                note_digest=record_hash(b"salted note"),
            ),
        ),
        (
            "U123456",
            e.CashReversed(
                time_precision="day",
                cash_id="12085219399",
                ref_cash_id="12085219346",
                booked_date=Day("2020-02-21"),
            ),
        ),
        (
            "U123456",
            e.PositionMoved(
                time_precision="second",
                movement_id="2018-09-21/assignment/1",
                reason="assignment",
                legs=(_LEG,),
                cash=(e.CashLeg(currency="USD", amount=Decimal(-20000)),),
                action_id="A-1",
                booked_date=Day("2018-09-24"),
                trade_date=Day("2018-09-21"),
                ids={"transaction": "9871234"},
                identifiers={"symbol": "FB    180921P00200000"},
            ),
        ),
        (
            "U123456",
            e.PositionMoveReversed(
                time_precision="second",
                movement_id="2018-09-24/assignment/1",
                ref_movement_id="2018-09-21/assignment/1",
                booked_date=Day("2018-09-24"),
            ),
        ),
        ("U123456", e.TransferSent(transfer_id="T-9", to_account="U654321", legs=(_LEG,))),
        ("U654321", e.TransferReceived(transfer_id="T-9", from_account="U123456", legs=(_LEG,))),
        (
            "U123456",
            e.TransferReturned(
                transfer_id="T-10", to_account="U999999", reason="account closed", cash=_USD
            ),
        ),
        (
            "U123456",
            e.CommandRefused(
                reason="conflict",
                command_type="RecordDeal",
                asked={"deal_id": "d1", "quantity": "100", "price": "1.50", "fees": []},
                numbers={"recorded_quantity": "90"},
            ),
        ),
        (
            "conid:277684800",
            e.InstrumentDefined(
                kind="option",
                currency="USD",
                from_date=Day("2018-05-11"),
                symbol="FB    180921C00200000",
                mic="XCBO",
                conid="277684800",
                multiplier=Decimal(100),
                expiry=Day("2018-09-21"),
                strike=Decimal(200),
                right="call",
                underlying="conid:107113386",
                time_zone="America/New_York",
            ),
        ),
        (
            "conid:29612249",
            e.InstrumentChanged(
                currency="GBP",
                from_date=Day("2024-02-01"),
                symbol="VOD",
                isin="GB00BH4HKS39",
                figi="BBG000C6K6G9",
                price_unit=Decimal("0.01"),
                sector="communication",
                country="GB",
            ),
        ),
        (
            "conid:80845553",
            e.InstrumentIdentified(
                scheme="conid",
                value="278462431",
                from_date=Day("2013-04-25"),
                to_date=Day("2017-06-12"),
            ),
        ),
        ("growth", e.PortfolioDefined(parent="house", from_date=Day("2013-01-01"))),
        (
            "AAPL",
            e.CorporateActionAnnounced(
                action_id="AAPL-2014-split",
                kind="split",
                ex_date=Day("2014-06-09"),
                record_date=Day("2014-06-02"),
                pay_date=Day("2014-06-06"),
                options=(e.CorporateActionOption(ratio_new=Decimal(7), ratio_old=Decimal(1)),),
            ),
        ),
        (
            "GOOG",
            e.CorporateActionCorrected(
                action_id="GOOG-2014-class-c-2",
                ref_action_id="GOOG-2014-class-c",
                kind="spin_off",
                ex_date=Day("2014-04-03"),
                options=(
                    e.CorporateActionOption(
                        option="stock",
                        ratio_new=Decimal(1),
                        ratio_old=Decimal(1),
                        new_instrument="GOOG.C",
                        cost_fraction=Decimal("0.4989"),
                    ),
                    e.CorporateActionOption(option="cash", amount=Decimal("0.82"), currency="USD"),
                ),
            ),
        ),
        (
            "GOOG",
            e.CorporateActionCancelled(action_id="GOOG-x-2", ref_action_id="GOOG-x"),
        ),
        (
            "EUR/USD",
            e.PriceRecorded(
                time_precision="day",
                price=Decimal("1.10450"),
                currency="USD",
                kind="mid",
                price_date=Day("2024-01-02"),
                source="ecb",
            ),
        ),
        (None, e.LogCreated(log_id=LOG_ID, topic="events", partition=3, partitions=16)),
        (None, e.TermStarted(owner="decider-2/4711")),
        (None, e.RecordParked(offset=1042, digest=record_hash(b"not a record"))),
    )
}


def sample_value(name: str) -> bytes:
    """Return the sample of a type as a record's value, in an envelope as an import writes it."""
    key, event = SAMPLES[name]
    number = list(SAMPLES).index(name) + 1
    fields: dict[str, Any] = {"actor": "compliance", "term": 3, "seq": 0}
    if name not in CONTROL_TYPES:
        stream = "account" if name in TYPES_OF["events"] else "key"
        fields = {
            stream: key,
            "seq": number,
            "command_id": f"import:{record_hash(name.encode())[:32]}",
            "command_hash": record_hash(f"content of {name}".encode()),
            "correlation_id": "import:flex-01",
            "source": Source(digest=FILE_DIGEST, line=number),
            "flags": ("assumed",) if name == "DealRecorded" else (),
            "basis": {"reference/5": "17"} if name == "DealRecorded" else {},
            "prev_hash": record_hash(f"before {name}".encode()),
        }
    if name == "LogCreated":
        fields = {"command_id": ""}
    day = getattr(event, "trade_date", None) or getattr(event, "booked_date", None)
    if day is not None:
        fields["event_time"] = Instant(f"{day}T13:34:06.000000000Z")
    return encode(make_envelope(event, number, 0, fields))


def main() -> int:
    """Write the examples that are missing."""
    EXAMPLES.mkdir(exist_ok=True)
    for name in SAMPLES:
        path = EXAMPLES / f"{name}.v{CURRENT_VERSIONS[name]}.json"
        if not path.exists():
            value = sample_value(name)
            path.write_bytes(value)
            with DIGESTS.open("a") as digests:
                digests.write(f"{record_hash(value)}  {path.name}\n")
            sys.stderr.write(f"wrote {path.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
