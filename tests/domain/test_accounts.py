"""Accounts and reference data: opened, defined, changed, told again."""

from decimal import Decimal

from domain.commands import (
    AnnounceCorporateAction,
    CancelCorporateAction,
    CloseAccount,
    CorrectCorporateAction,
    DefineInstrument,
    DefinePortfolio,
    IdentifyInstrument,
    OpenAccount,
    RecordPrice,
)
from domain.decisions import Accepted, Known, Lacking
from domain.entities import Account, Instrument
from domain.events import AccountChanged, AccountOpened, InstrumentChanged, InstrumentDefined
from projections.instruments.fold import CORPORATE_ACTIONS, PROJECTION
from tests.domain.journal import Journal
from tests.projections.row_store import fold_fresh


def _settings(journal: Journal) -> AccountOpened:
    account = journal.entity("account", "")
    assert isinstance(account, Account)
    return account.settings


def test_an_account_is_opened_and_changed() -> None:
    journal = Journal()
    journal.accept(OpenAccount(base_currency="USD", portfolio="P"))
    assert journal.submit(OpenAccount(base_currency="USD", portfolio="P")) == Known(1, 1)
    changed = journal.accept(OpenAccount(base_currency="EUR", from_date="2024-02-01")).event
    assert changed == AccountChanged(base_currency="EUR", from_date="2024-02-01")
    assert (_settings(journal).base_currency, _settings(journal).portfolio) == ("EUR", "P")


def test_an_assumed_account_gives_way_to_what_is_told() -> None:
    journal = Journal()
    journal.accept(OpenAccount(base_currency="USD"), flags=("assumed",))
    again = journal.submit(OpenAccount(base_currency="EUR"), flags=("assumed",))
    assert again == Known(1, 1)
    told = journal.accept(OpenAccount(base_currency="USD"))
    assert isinstance(told.event, AccountChanged)
    account = journal.entity("account", "")
    assert isinstance(account, Account)
    assert not account.assumed
    assert isinstance(journal.submit(OpenAccount(base_currency="USD")), Known)


def test_settings_of_an_earlier_date_do_not_replace_those_that_hold() -> None:
    journal = Journal()
    journal.accept(OpenAccount(portfolio="P1", from_date="2024-01-01"))
    earlier = OpenAccount(portfolio="P0", from_date="2020-01-01")
    assert journal.refuse(earlier) == "earlier_from"
    known = OpenAccount(portfolio="P1", from_date="2020-01-01")  # nothing would change
    assert isinstance(journal.submit(known), Known)
    journal.accept(OpenAccount(portfolio="P2", from_date="2024-01-01"))
    journal.accept(OpenAccount(portfolio="P3"))
    assert _settings(journal).portfolio == "P3"
    journal.accept(DefineInstrument(sector="a", from_date="2024-01-01"), key="X")
    earlier_terms = DefineInstrument(sector="b", from_date="2023-12-31")
    assert journal.refuse(earlier_terms, key="X") == "earlier_from"
    journal.accept(DefineInstrument(sector="b", from_date="2024-01-02"), key="X")
    journal.accept(DefineInstrument(sector="a"), key="X")


def test_what_was_told_for_its_date_before_is_known_and_not_refused() -> None:
    journal = Journal()
    told = [
        OpenAccount(method="fifo", from_date="2022-01-01"),
        OpenAccount(method="fifo", from_date="2023-01-01"),
        OpenAccount(method="lifo", from_date="2024-01-01"),
        OpenAccount(method="average", from_date="2024-01-01"),
        OpenAccount(method="fifo", from_date="2025-01-01"),
    ]
    for command in told:
        journal.submit(command)
    for command in told:
        assert isinstance(journal.submit(command), Known)
    assert journal.refuse(OpenAccount(method="average", from_date="2022-01-01")) == "earlier_from"
    assert _settings(journal).from_date == "2025-01-01"


def test_terms_that_were_told_for_their_date_before_are_known_and_not_refused() -> None:
    journal = Journal()
    journal.accept(DefineInstrument(), key="X", flags=("assumed",))
    told = [
        DefineInstrument(sector=sector, from_date=f"{year}-01-01")
        for year, sector in ((2020, "a"), (2021, "b"), (2022, "b"), (2023, "b"), (2024, "c"))
    ]
    for command in told:
        journal.accept(command, key="X")
    listed = DefineInstrument(sector="c", from_date="2015-01-01")  # nothing would change
    for command in (*told, listed):
        assert isinstance(journal.submit(command, key="X"), Known)
    other = DefineInstrument(sector="a", from_date="2022-01-01")
    assert journal.refuse(other, key="X") == "earlier_from"
    kept = journal.entities["reference", "X", "instrument", ""]
    assert isinstance(kept, Instrument)
    assert [(one.sector, one.from_date) for one in kept.earlier] == [
        ("a", "2020-01-01"),
        ("b", "2021-01-01"),
    ]


def test_an_account_is_closed_once() -> None:
    journal = Journal()
    assert isinstance(journal.submit(CloseAccount()), Lacking)
    journal.accept(OpenAccount(base_currency="USD"))
    journal.accept(CloseAccount(reason="moved"))
    assert journal.refuse(CloseAccount()) == "account_closed"


def test_an_instrument_is_defined_and_changed() -> None:
    journal = Journal()
    assumed = journal.accept(DefineInstrument(), key="X", flags=("assumed",))
    assert (type(assumed.event), assumed.flags) == (InstrumentDefined, ("assumed",))
    assert isinstance(journal.submit(DefineInstrument(), key="X", flags=("assumed",)), Known)
    assert isinstance(journal.accept(DefineInstrument(), key="X").event, InstrumentChanged)
    assert isinstance(journal.submit(DefineInstrument(), key="X"), Known)
    journal.accept(DefineInstrument(multiplier=Decimal(10)), key="X")
    known = journal.entities["reference", "X", "instrument", ""]
    assert isinstance(known, Instrument)
    assert (known.terms.multiplier, known.seq, known.assumed) == (Decimal(10), 3, False)


def test_what_is_named_again_is_known() -> None:
    journal = Journal()
    for key, command in (
        ("X", IdentifyInstrument(scheme="ISIN", value="US0378331005")),
        ("P", DefinePortfolio(parent="TOP")),
    ):
        journal.accept(command, key=key)
        assert isinstance(journal.submit(command, key=key), Known)
    journal.accept(DefinePortfolio(parent="OTHER"), key="P")
    again = journal.submit(DefinePortfolio(parent="TOP"), key="P")
    assert isinstance(again, Accepted)


def test_a_price_is_always_recorded() -> None:
    journal = Journal()
    price = RecordPrice(price=Decimal(1), currency="USD")
    assert [journal.accept(price, key="X").flags for _ in range(2)] == [(), ()]


SPLIT = AnnounceCorporateAction(action_id="1", kind="split", ex_date="2024-02-01")
MOVED = CorrectCorporateAction(action_id="2", ref_action_id="1", kind="split", ex_date="2024-02-02")
GONE = CancelCorporateAction(action_id="3", ref_action_id="2")


def _actions(*commands: object) -> dict[str, tuple[str, str | None]]:
    journal = Journal()
    for command in commands:
        journal.accept(command, key="X")  # type: ignore[arg-type]
    rows = fold_fresh(PROJECTION, journal.events["reference"]).rows(CORPORATE_ACTIONS)
    return {row.action_id: (row.status, row.ex_date) for row in rows}


def test_corporate_actions_in_either_order_of_arrival() -> None:
    expected = {"1": ("corrected", "2024-02-01"), "2": ("cancelled", "2024-02-02")}
    assert _actions(SPLIT, MOVED, GONE) == expected
    assert _actions(GONE, MOVED, SPLIT) == expected
    assert _actions(MOVED, SPLIT, GONE) == expected


def test_an_action_told_anew_or_cancelled_under_its_own_id() -> None:
    own = CorrectCorporateAction(
        action_id="1", ref_action_id="1", kind="split", ex_date="2024-02-03"
    )
    assert _actions(SPLIT, own) == {"1": ("announced", "2024-02-03")}
    gone = CancelCorporateAction(action_id="1", ref_action_id="1")
    assert _actions(SPLIT, gone) == {"1": ("cancelled", "2024-02-01")}


def test_actions_whose_ids_are_taken() -> None:
    journal = Journal()
    journal.accept(SPLIT, key="X")
    assert isinstance(journal.submit(SPLIT, key="X"), Known)
    other = AnnounceCorporateAction(action_id="1", kind="merger", ex_date="2024-02-01")
    assert journal.refuse(other, key="X") == "conflict"
    journal.accept(MOVED, key="X")
    taken = CorrectCorporateAction(
        action_id="2", ref_action_id="1", kind="merger", ex_date="2024-02-01"
    )
    assert journal.refuse(taken, key="X") == "conflict"
    unknown = CancelCorporateAction(action_id="9", ref_action_id="8")
    assert journal.accept(unknown, key="X").flags == ("unknown_action",)
