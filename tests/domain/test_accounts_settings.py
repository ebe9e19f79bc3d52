"""Settings of accounts: what was not told is left as it is."""

from domain.commands import OpenAccount
from domain.decisions import Accepted, Known
from domain.entities import Account
from domain.events import AccountChanged, AccountOpened
from tests.domain.journal import Journal


def settings_of(journal: Journal) -> AccountOpened:
    account = journal.entities["events", "A1", "account", ""]
    assert isinstance(account, Account)
    return account.settings


def test_an_account_opens_in_dollars_first_in_first_out() -> None:
    journal = Journal()
    journal.submit(OpenAccount())
    assert settings_of(journal) == AccountOpened(base_currency="USD", method="fifo")


def test_settings_that_are_not_told_again_stay() -> None:
    journal = Journal()
    journal.submit(OpenAccount(base_currency="EUR", method="lifo", time_zone="Europe/Berlin"))
    decision = journal.submit(OpenAccount(base_currency="EUR", portfolio="P1"))
    assert decision == Accepted(AccountChanged(portfolio="P1"))
    assert settings_of(journal).method == "lifo"
    assert settings_of(journal).time_zone == "Europe/Berlin"


def test_what_changes_nothing_is_known() -> None:
    journal = Journal()
    journal.submit(OpenAccount(base_currency="EUR", method="lifo"))
    assert journal.submit(OpenAccount(base_currency="EUR")) == Known(1, 1)


def test_an_assumed_account_takes_all_that_is_told() -> None:
    journal = Journal()
    journal.submit(OpenAccount(base_currency="USD"), flags=("assumed",))
    decision = journal.submit(OpenAccount(base_currency="USD", method="average"))
    assert decision == Accepted(AccountChanged(base_currency="USD", method="average"))
    assert journal.entities["events", "A1", "account", ""].assumed is False
