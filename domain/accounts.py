"""Accounts: opened, changed, closed."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from domain.commands import CloseAccount, OpenAccount, Request
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, Stamped, View
from domain.entities import Account
from domain.events import AccountChanged, AccountClosed, AccountOpened, InstrumentFields

_BASE_CURRENCY = "USD"
ASSUMED = "assumed"
"""Flag of settings and terms that nobody told."""

Dated = TypeVar("Dated", bound=AccountOpened | InstrumentFields)
"""What holds from a date on: settings of an account, or terms of an instrument."""


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
    if not is_earlier(told, settings):
        return Accepted(AccountChanged(**changes), request.flags)
    if was_told(told, account.earlier, settings):
        return Known(account.offset, account.seq)
    return refused_as_earlier(told, settings)


def is_earlier(told: Mapping[str, object], held: Dated) -> bool:
    """Tell whether something is told for an earlier date than that of what holds."""
    day = told.get("from_date")
    return isinstance(day, str) and held.from_date is not None and day < held.from_date


def was_told(told: Mapping[str, object], earlier: Sequence[Dated], held: Dated) -> bool:
    """Tell whether what is told for an earlier date changes nothing: it holds now, or held then.

    A file that is told again with lines added tells all that was in it before, with its dates.
    """
    day = str(told["from_date"])
    begun = [one for one in earlier if (one.from_date or "") <= day]
    of_day = [one for one in begun if one.from_date == day]
    return any(is_same(told, one) for one in (held, *(of_day or begun[-1:] or earlier[:1])))


def is_same(told: Mapping[str, object], held: Dated) -> bool:
    """Tell whether all that is told, but for its date, is what holds."""
    return all(getattr(held, name) == told[name] for name in told if name != "from_date")


def refused_as_earlier(told: Mapping[str, object], held: Dated) -> Refused:
    """Refuse what is told for an earlier date than that of what holds: what holds is the latest."""
    numbers = {"from": str(told["from_date"]), "held_from": str(held.from_date)}
    return Refused("earlier_from", numbers)


def with_earlier(earlier: tuple[Dated, ...], held: Dated) -> tuple[Dated, ...]:
    """Return what was told before, with what has held until now; what only has a later date not."""
    if earlier and is_same(msgspec.structs.asdict(held), earlier[-1]):
        return earlier
    return (*earlier, held)


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
            before = account.settings
            return msgspec.structs.replace(
                account,
                settings=msgspec.structs.replace(before, **changes),
                assumed=False,
                earlier=() if account.assumed else with_earlier(account.earlier, before),
            )
        case AccountClosed() if account is not None:
            return msgspec.structs.replace(account, closed=True)
        case _:
            raise AssertionError(f"{type(event).__name__} at seq {stamped.seq} without its account")
