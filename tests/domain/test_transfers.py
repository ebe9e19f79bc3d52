"""Both sides of a transfer, each told once."""

from decimal import Decimal
from typing import Any

import pytest

from domain.commands import (
    CloseAccount,
    OpenAccount,
    ReceiveTransfer,
    ReturnTransfer,
    SendTransfer,
)
from domain.decisions import Known, Lacking, Refused
from domain.entities import Transfer
from domain.events import CashLeg, LotTold, UnitLeg
from tests.domain.journal import Journal, at

CASH = (CashLeg(currency="USD", amount=Decimal(5)),)


@pytest.fixture
def journal() -> Journal:
    """Two accounts."""
    opened = Journal()
    for account in ("A1", "A2"):
        opened.accept(OpenAccount(base_currency="USD"), key=account)
    return opened


def send(transfer_id: str = "t1", to: str = "A2", **told: Any) -> SendTransfer:
    return SendTransfer(transfer_id=transfer_id, to_account=to, **{"cash": CASH, **told})


def named(**told: Any) -> tuple[UnitLeg, ...]:
    lot = LotTold(lot="L1", quantity=Decimal(1), **told)
    return (UnitLeg(instrument="X", quantity=Decimal(1), currency="USD", lots=(lot,)),)


def receive(transfer_id: str = "t1", **told: Any) -> ReceiveTransfer:
    fields = {"cash": CASH, **told}
    return ReceiveTransfer(transfer_id=transfer_id, from_account="A1", **fields)


def give_back(transfer_id: str = "t1") -> ReturnTransfer:
    return ReturnTransfer(transfer_id=transfer_id, to_account="A2", reason="closed", cash=CASH)


def test_sent_and_received(journal: Journal) -> None:
    journal.accept(send())
    journal.accept(receive(), key="A2")
    sent, received = (journal.entity("transfer", "t1", key) for key in ("A1", "A2"))
    assert isinstance(sent, Transfer)
    assert isinstance(received, Transfer)
    assert (sent.status, sent.other_account) == ("sent", "A2")
    assert (received.status, received.other_account) == ("received", "A1")
    assert isinstance(journal.submit(send()), Known)
    assert isinstance(journal.submit(receive(), key="A2"), Known)
    journal.accept(send("t2", legs=named()))
    other = (CashLeg(currency="USD", amount=Decimal(6)),)
    assert journal.refuse(send(cash=other)) == "conflict"
    assert journal.refuse(receive(cash=other), key="A2") == "conflict"
    assert journal.refuse(give_back(), key="A2") == "not_sent_from_here"


def test_sent_and_returned(journal: Journal) -> None:
    journal.accept(send())
    journal.accept(CloseAccount(), key="A2")
    assert journal.refuse(receive(), key="A2") == "account_closed"
    journal.accept(give_back())
    assert isinstance(journal.submit(give_back()), Known)
    assert isinstance(journal.submit(give_back("t9")), Lacking)


def test_what_an_unknown_account_does_not_receive_is_for_good(journal: Journal) -> None:
    # The sender takes it back: a second asking after the account was opened must find the first.
    assert journal.refuse(receive(), key="A9") == "unknown_account"
    assert isinstance(journal.submit(send(), key="A9"), Lacking)
    assert isinstance(journal.submit(give_back(), key="A9"), Lacking)


def test_a_closed_account_sends_nothing_but_takes_back(journal: Journal) -> None:
    journal.accept(send())
    journal.accept(CloseAccount())
    assert journal.refuse(send("t2")) == "account_closed"
    journal.accept(give_back())


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"to": "A1"}, "to_itself"),
        ({"cash": ()}, "empty_transfer"),
        ({"cash": (CashLeg(currency="USD", amount=Decimal("0E+3")),)}, "not_positive"),
        (
            {"legs": (UnitLeg(instrument="X", quantity=Decimal(-1), currency="USD"),)},
            "not_positive",
        ),
        ({"legs": named(cost=Decimal(500))}, "cost_told"),
        ({"legs": named(opened_at=at(0))}, "cost_told"),
    ],
)
def test_what_cannot_be_sent(journal: Journal, told: dict[str, Any], reason: str) -> None:
    decision = journal.submit(send(**told))
    assert isinstance(decision, Refused)
    assert decision.reason == reason
    assert "E" not in decision.numbers.get("amount", "")
