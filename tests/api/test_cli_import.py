"""Each kind of file through `daybook import`: recognised, counted, in the books."""

import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.api import fix_lines
from tests.api.command_line import CommandLine

DEALS = """account,deal_id,instrument,side,quantity,price,currency,event_time
F,f1,ESH4,buy,2,4800.25,USD,2024-01-02T15:00:00Z
F,f2,ESH4,sell,1,4810.25,USD,2024-01-02T16:00:00Z
F,f3,AAPL,buy,1,100,USD,2024-01-02T16:00:00Z
"""
INSTRUMENTS = "instrument,kind,currency,multiplier\nESH4,future,USD,50\nAAPL,equity,USD,1\n"


def position(daybook: CommandLine, instrument: str) -> dict[str, Any]:
    (row,) = daybook.rows("positions", "--instrument", instrument)
    return row


def test_deals_with_assumed_terms_are_amended_once_the_instrument_is_defined(
    daybook: CommandLine,
) -> None:
    daybook.imported("deals.csv", DEALS)
    assert position(daybook, "ESH4")["realised_pnl"] == "10"
    assert daybook.imported("instruments.csv", INSTRUMENTS)["accepted"] == 2
    assert position(daybook, "ESH4")["realised_pnl"] == "500"
    assert Decimal(position(daybook, "ESH4")["cost_basis"]) == Decimal("240012.5")
    assert Decimal(daybook.rows("balances")[0]["balance"]) == -100
    types = [line["type"] for line in daybook.good("log", "--account", "F").lines]
    assert types == ["AccountOpened", *["DealRecorded"] * 3, *["DealTermsAmended"] * 2]
    before = daybook.good("log").out
    assert daybook.imported("instruments.csv", INSTRUMENTS)["duplicate"] == 2
    assert daybook.good("log").out == before
    daybook.good("verify")


def test_the_same_rows_in_parquet_are_the_same_facts(daybook: CommandLine) -> None:
    header, *lines = DEALS.splitlines()
    cells = [line.split(",") for line in lines]
    columns = dict(zip(header.split(","), map(list, zip(*cells, strict=True)), strict=True))
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    assert daybook.imported("deals.csv", DEALS)["accepted"] == 3
    assert daybook.imported("deals.parquet", file.getvalue())["duplicate"] == 3


def test_a_drop_copy_of_fix_makes_orders_and_deals(daybook: CommandLine) -> None:
    lines = [
        fix_lines.order(),
        fix_lines.execution("0", t39=0, t14=0, t151=100),
        fix_lines.fill(40, "185.50", t17="e1", t39=1, t14=40, t151=60),
        fix_lines.fill(60, "185.40", t17="e2", t39=2, t14=100, t151=0),
    ]
    counts = daybook.imported("drop.fix", b"\n".join(lines) + b"\n")
    assert (counts["read"], counts["accepted"]) == (4, 4)
    (order,) = daybook.rows("orders")
    assert (order["order_id"], order["status"]) == ("2024-01-02/a1", "filled")
    assert (order["cum_quantity"], order["average_price"]) == ("100", "185.4400000000")
    assert len(daybook.rows("deals")) == 2
    assert daybook.imported("drop.fix", b"\n".join(lines) + b"\n")["duplicate"] == 4
    daybook.good("verify")


def test_fees_movements_and_corporate_actions_are_taken(daybook: CommandLine) -> None:
    daybook.imported("deals.csv", DEALS)
    daybook.imported(
        "fees.csv",
        "account,deal_id,kind,amount,currency,event_time\n"
        "F,f3,commission,1.25,USD,2024-01-03T10:00:00Z\n",
    )
    assert position(daybook, "AAPL")["fees"] == "1.25"
    daybook.imported(
        "movements.csv",
        "account,movement_id,reason,event_time,quantity,instrument,currency,lot_id,opened_at,"
        "cost,cost_currency\n"
        "F,m1,opening,2024-01-01,10,MSFT,,L1,2020-05-05T10:00:00Z,3700.70,USD\n"
        "F,m1,opening,2024-01-01,500.50,,USD,,,,\n",
    )
    (lot,) = daybook.rows("lots", "--instrument", "MSFT")
    assert (lot["lot_id"], lot["opened_at"], Decimal(lot["cost"])) == (
        *("L1", "2020-05-05T10:00:00Z", Decimal("3700.70")),
    )
    assert {row["movement_id"] for row in daybook.rows("movements")} == {"m1"}
    counts = daybook.imported(
        "actions.csv",
        "instrument,action_id,kind,ex_date,ratio_new,ratio_old\nAAPL,s1,split,2024-06-10,10,1\n",
    )
    assert counts["accepted"] == 1
    log = daybook.good("log", "--topic", "reference").lines
    assert "CorporateActionAnnounced" in {line["type"] for line in log}
    daybook.good("verify")
