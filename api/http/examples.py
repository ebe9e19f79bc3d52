"""An example of each write, as it could be sent."""

from typing import Any, Final

_TIME: Final = "2024-01-02T14:30:00Z"
_ABOUT: Final = {"account": "A1", "event_time": _TIME}

EXAMPLES: Final[dict[str, Any]] = {
    "OpenAccount": {**_ABOUT, "base_currency": "USD", "portfolio": "desk", "method": "fifo"},
    "PlaceOrder": {
        **_ABOUT,
        "order_id": "2024-01-02/a1",
        "instrument": "AAPL",
        "side": "buy",
        "quantity": "100",
        "order_type": "limit",
        "limit_price": "185.64",
    },
    "CancelOrder": {**_ABOUT, "reason": "changed my mind"},
    "ReplaceOrder": {**_ABOUT, "quantity": "200"},
    "RecordDeal": {
        **_ABOUT,
        "deal_id": "D1",
        "instrument": "AAPL",
        "side": "buy",
        "quantity": "100",
        "price": "185.64",
        "currency": "USD",
        "fees": [{"kind": "commission", "amount": "1.00", "currency": "USD"}],
    },
    "BustDeal": {**_ABOUT, "deal_id": "D1-bust"},
    "CorrectDeal": {
        **_ABOUT,
        "deal_id": "D1-corrected",
        "instrument": "AAPL",
        "side": "buy",
        "quantity": "100",
        "price": "185.46",
        "currency": "USD",
    },
    "MoveCash": {**_ABOUT, "cash_id": "C1", "kind": "deposit", "amount": "1000", "currency": "USD"},
    "SendTransfer": {
        **_ABOUT,
        "transfer_id": "T1",
        "to_account": "A2",
        "cash": [{"currency": "USD", "amount": "250.00"}],
    },
    "command": {
        "command_id": "c-1",
        "type": "RecordDeal",
        "account": "A1",
        "event_time": _TIME,
        "data": {
            "deal_id": "D1",
            "instrument": "AAPL",
            "side": "buy",
            "quantity": "100",
            "price": "185.64",
            "currency": "USD",
        },
    },
    "answer": {
        "command_id": "c-1",
        "status": "accepted",
        "position": "3:12",
        "event": "DealRecorded",
        "reason": None,
    },
}
