"""Movements of cash and units, and their reversals, in either order of arrival."""

from decimal import Decimal
from typing import Any

import pytest

from domain.commands import (
    CloseAccount,
    Command,
    MoveCash,
    MovePosition,
    OpenAccount,
    ReverseCash,
    ReversePositionMove,
)
from domain.decisions import Known, Lacking, Refused
from domain.events import UnitLeg
from tests.domain.journal import Journal, at


@pytest.fixture
def journal() -> Journal:
    """An account of New York."""
    opened = Journal()
    opened.accept(OpenAccount(base_currency="USD", time_zone="America/New_York"))
    return opened


def move_cash(cash_id: str = "k1", amount: str = "5") -> MoveCash:
    return MoveCash(cash_id=cash_id, kind="deposit", amount=Decimal(amount), currency="USD")


def move_units(movement_id: str = "m1", quantity: str = "5") -> MovePosition:
    leg = UnitLeg(instrument="X", quantity=Decimal(quantity), currency="USD")
    return MovePosition(movement_id=movement_id, reason="opening", legs=(leg,))


def reverse_cash(own: str, ref: str) -> ReverseCash:
    return ReverseCash(cash_id=own, ref_cash_id=ref)


def reverse_units(own: str, ref: str) -> ReversePositionMove:
    return ReversePositionMove(movement_id=own, ref_movement_id=ref)


KINDS: list[tuple[Any, Any]] = [(move_cash, reverse_cash), (move_units, reverse_units)]


@pytest.mark.parametrize(("move", "reverse"), KINDS)
def test_a_reversal_after_and_before_what_it_reverses(
    journal: Journal, move: Any, reverse: Any
) -> None:
    assert journal.accept(move("1")).flags == ()
    assert journal.accept(reverse("r1", "1")).flags == ()
    assert journal.accept(reverse("r2", "1")).flags == ("reversed_already",)
    assert journal.accept(reverse("r3", "2")).flags == ("waiting",)
    assert journal.accept(move("2")).flags == ("reversed_before_arrival",)


@pytest.mark.parametrize(("move", "reverse"), KINDS)
def test_a_reversal_is_not_reversed_itself(journal: Journal, move: Any, reverse: Any) -> None:
    journal.accept(move("1"))
    journal.accept(reverse("r1", "1"))
    assert journal.accept(reverse("r2", "r1")).flags == ("reversed_already",)
    assert journal.refuse(reverse("r3", "r3")) == "reverses_itself"


@pytest.mark.parametrize(("move", "reverse"), KINDS)
def test_an_id_told_again(journal: Journal, move: Any, reverse: Any) -> None:
    for command, other in ((move("1"), move("1", "6")), (reverse("r", "1"), reverse("r", "2"))):
        journal.accept(command)
        offset = journal.events["events"][-1].offset
        assert journal.submit(command) == Known(offset, offset)
        refused = journal.submit(other)
        assert isinstance(refused, Refused)
        assert (refused.reason, refused.numbers["first_seq"]) == ("conflict", str(offset))
    assert journal.refuse(move("r")) == "conflict"


def test_cash_and_units_have_ids_of_their_own(journal: Journal) -> None:
    journal.accept(move_cash("1"))
    assert journal.accept(move_units("1")).flags == ()


def test_ids_of_transfers_cannot_be_taken(journal: Journal) -> None:
    assert journal.refuse(move_units("transfer/t1/sent")) == "id_reserved"
    assert journal.refuse(reverse_units("r1", "transfer/t1/sent")) == "id_reserved"


def test_the_booked_date_is_the_accounts_own_day(journal: Journal) -> None:
    before_midnight = at(12 * 3600 - 1)
    event = journal.accept(move_cash(), at_time=before_midnight).event
    assert event.booked_date == "2024-01-02"
    told = MoveCash(
        cash_id="k2",
        kind="dividend",
        amount=Decimal(1),
        currency="USD",
        booked_date="2020-02-14",
    )
    assert journal.accept(told).event.booked_date == "2020-02-14"


@pytest.mark.parametrize("command", [move_cash(), move_units(), reverse_cash("r", "k")])
def test_accounts_that_are_closed_or_unknown(journal: Journal, command: Command) -> None:
    assert isinstance(journal.submit(command, key="A9"), Lacking)
    journal.accept(CloseAccount())
    assert "account_closed" in journal.accept(command).flags
