"""Accounts: opened, changed, closed."""

import msgspec

from domain.commands import CloseAccount, OpenAccount, Request
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, Stamped, View
from domain.entities import Account
from domain.events import AccountChanged, AccountClosed, AccountOpened
from domain.times import Day

_BASE_CURRENCY = "USD"
ASSUMED = "assumed"
"""Flag of settings and terms that nobody told."""


def find_account(view: View) -> Account | None:
    """Return the account whose stream this is, or None when nobody opened it."""
    entity = view.get("account", "")
    return entity if isinstance(entity, Account) else None


def decide_account(view: View, request: Request, _content_hash: str) -> Decision:
    """Decide on opening, changing or closing an account."""
    account = find_account(view)
    command = request.command
    match command:
        case OpenAccount():
            return _open(account, request, command)
        case CloseAccount():
            if account is None:
                return unknown_account(request.key)
            if account.closed:
                return Refused("account_closed")
            return Accepted(AccountClosed(reason=command.reason), request.flags)
        case _:
            raise AssertionError(f"{type(command).__name__} is not a command about accounts")


def unknown_account(account_id: str) -> Lacking:
    """Say that an account is not open: it can be opened and the command tried again."""
    return Lacking("unknown_account", f"no account {account_id!r} is open")


def _open(account: Account | None, request: Request, command: OpenAccount) -> Decision:
    told = {
        name: value for name, value in msgspec.structs.asdict(command).items() if value is not None
    }
    if account is None:
        return Accepted(AccountOpened(**{"base_currency": _BASE_CURRENCY, **told}), request.flags)
    if ASSUMED in request.flags:
        return Known(account.offset, account.seq)
    settings = account.settings
    changes = {
        name: value
        for name, value in told.items()
        if account.assumed or name == "from_date" or getattr(settings, name) != value
    }
    if changes.keys() <= {"from_date"}:
        return Known(account.offset, account.seq)
    return refused_as_earlier(command.from_date, settings.from_date) or Accepted(
        AccountChanged(**changes), request.flags
    )


def refused_as_earlier(told: Day | None, held: Day | None) -> Refused | None:
    """Refuse settings told for an earlier date than those that hold: what holds is the latest."""
    if told is None or held is None or told >= held:
        return None
    return Refused("earlier_from", {"from": told, "held_from": held})


def evolve_account(account: Account | None, stamped: Stamped) -> Account:
    """Return the account after one of its own events."""
    event = stamped.event
    match event:
        case AccountOpened():
            return Account(
                settings=event,
                offset=stamped.offset,
                seq=stamped.seq,
                assumed=ASSUMED in stamped.flags,
            )
        case AccountChanged() if account is not None:
            changes = {
                name: value
                for name, value in msgspec.structs.asdict(event).items()
                if value is not None
            }
            settings = msgspec.structs.replace(account.settings, **changes)
            return msgspec.structs.replace(account, settings=settings, assumed=False)
        case AccountClosed() if account is not None:
            return msgspec.structs.replace(account, closed=True)
        case _:
            raise AssertionError(f"{type(event).__name__} at seq {stamped.seq} without its account")
