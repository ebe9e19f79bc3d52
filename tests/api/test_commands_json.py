"""Commands as JSON define what is unknown as a file does that tells the same."""

from pathlib import Path
from typing import Any

import pytest

from api.commands_json import fact_from_object
from domain.money import normalized
from tests.api.csv_lines import Read, one, reader

NOON = "2024-01-02T12:00:00Z"
DEAL = {"deal_id": "D", "side": "buy", "quantity": "1000", "price": "1.08", "currency": "USD"}
ORDER = {"order_id": "O", "side": "buy", "quantity": "1", "order_type": "market"}
CASH = {"cash_id": "C", "kind": "dividend", "amount": "5", "currency": "EUR"}
MERGER = {"option": "stock", "new_instrument": "NEW", "currency": "EUR", "amount": "1"}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return reader(tmp_path / "table.csv")


def _told(kind: str, key: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"command_id": "c", "type": kind, "key": key, "event_time": NOON, "data": data}


DEALS = "account,deal_id,instrument,side,quantity,price,currency,event_time,kind,multiplier"
ACTIONS = (
    "instrument,action_id,kind,ex_date,option,amount,currency,new_instrument,action,ref_action_id"
)
FUTURE = {"instrument": "CLF5", "kind": "future", "multiplier": "1000"}
CASES = [
    (
        *(DEALS, f"A,D,EUR/USD,buy,1000,1.08,USD,{NOON},,"),
        *("RecordDeal", "A", DEAL | {"instrument": "EUR/USD"}),
    ),
    (
        *(DEALS, f"A,D,CLF5,buy,1000,1.08,USD,{NOON},future,1000"),
        *("RecordDeal", "A", DEAL | FUTURE),
    ),
    (
        "account,order_id,instrument,side,quantity,order_type,event_time",
        f"A,O,BTC/USD,buy,1,market,{NOON}",
        *("PlaceOrder", "A", ORDER | {"instrument": "BTC/USD"}),
    ),
    (
        *("instrument,price,currency,event_time", f"X,1.1,EUR,{NOON}"),
        *("RecordPrice", "X", {"price": "1.1", "currency": "EUR"}),
    ),
    (
        *(
            "account,cash_id,kind,amount,currency,event_time,instrument",
            f"A,C,dividend,5,EUR,{NOON},X",
        ),
        *("MoveCash", "A", CASH | {"instrument": "X"}),
    ),
    (
        *("account,cash_id,kind,amount,currency,event_time", f"A,C,dividend,5,EUR,{NOON}"),
        *("MoveCash", "A", CASH),
    ),
    (
        *(ACTIONS, "X,M,merger,2024-01-02,stock,1,EUR,NEW,,"),
        *("AnnounceCorporateAction", "X"),
        {"action_id": "M", "kind": "merger", "ex_date": "2024-01-02", "options": [MERGER]},
    ),
    (
        *(ACTIONS, "X,N,merger,2024-01-02,,,,,cancel,M"),
        *("CancelCorporateAction", "X", {"action_id": "N", "ref_action_id": "M"}),
    ),
]


@pytest.mark.parametrize(("header", "row", "kind", "key", "data"), CASES)
def test_what_is_unknown_is_assumed_as_a_file_has_it(
    read: Read, header: str, row: str, kind: str, key: str, data: dict[str, Any]
) -> None:
    fact = fact_from_object(_told(kind, key, data))
    assert fact.defines == one(read(f"{header}\n{row}\n")).defines
    assert bool(fact.defines) == ("instrument" in data or kind != "MoveCash")


def test_an_option_without_a_currency_leaves_that_of_another(read: Read) -> None:
    options = [{"option": "cash", "amount": "1", "currency": "EUR"}, {"option": "shares"}]
    data = {"action_id": "M", "kind": "merger", "ex_date": "2024-01-02", "options": options}
    fact = fact_from_object(_told("AnnounceCorporateAction", "X", data))
    ((_, terms),) = fact.defines
    assert terms.currency == "EUR"
    header = "instrument,action_id,kind,ex_date,option,amount,currency"
    rows = "X,M,merger,2024-01-02,cash,1,EUR\nX,M,merger,2024-01-02,shares,,\n"
    assert one(read(f"{header}\n{rows}")).defines == fact.defines


def test_what_a_price_counts_is_part_of_what_is_assumed() -> None:
    told = DEAL | {"instrument": "VOD", "currency": "GBP", "price_unit": "0.01"}
    ((_, terms),) = fact_from_object(_told("RecordDeal", "A", told)).defines
    assert str(normalized(terms.price_unit)) == "0.01"
