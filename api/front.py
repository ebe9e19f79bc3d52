"""The ledger's front: opens what a fact needs first, keeps notes in the vault, submits in bulk.

Transfers are carried to their end at once; one that a crash has left on its way, by whoever writes
or asks next. Deals booked with assumed terms are amended when their instrument is defined.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Struct

from api.assumptions import NotAmended, amend_deals
from api.importing.lines import Fact
from api.wiring import Parts
from domain.accounts import ASSUMED
from domain.commands import (
    DefineInstrument,
    MoveCash,
    OpenAccount,
    Request,
    ReverseCash,
    SendTransfer,
    topic_of,
)
from domain.entities import Account, Entity, Instrument
from domain.events import UnitLeg
from domain.identifiers import MAX_ID_LENGTH
from schemas.envelope import Recorded
from schemas.partitioning import partition_of
from streams.answers import Answer
from streams.sent_lots import sent_legs
from streams.transfers import TransferBook, settle_transfers
from streams.vault import Kept

UNKNOWN_ACCOUNT: Final = "unknown_account"
UNKNOWN_INSTRUMENT: Final = "unknown_instrument"
_DEFINED_FIRST: Final = "InstrumentDefined"
_REMEMBERED: Final = 65_536
_settled_at: Final[WeakKeyDictionary[Parts, list[int]]] = WeakKeyDictionary()
"""The log's heads when transfers were carried to their end last."""
_MOST_LEFT: Final = 64
_left_legs: Final[WeakKeyDictionary[Parts, dict[str, tuple[UnitLeg, ...]]]] = WeakKeyDictionary()
"""What left with transfers that were not settled, by their record's hash: it stays the same, and to
find it folds all that its sender ever did."""


class Missing(Struct, frozen=True):
    """What a fact needs and the ledger does not know, told in strict mode instead of assumed."""

    reason: str
    field: str
    value: str


def finish_transfers(parts: Parts) -> bool:
    """Carry to its end each transfer that is on its way: received, or returned to its sender.

    Tells whether all were, as far as the log had come. None is on its way where nothing was
    recorded since. What nobody decides for now is left. Raises ServerUnavailable.
    """
    heads = parts.log.heads("events")
    if heads == _settled_at.get(parts):
        return True
    with parts.transfers() as book:
        if not (is_done := book.is_idle()):
            _settle(parts, book)
            is_done = book.is_idle()
    if is_done:
        _left_legs.pop(parts, None)
    # In Kafka an owner may not have read back yet what stands in the log.
    if is_done or not parts.is_distributed:
        _settled_at[parts] = heads
    return is_done


def _settle(parts: Parts, book: TransferBook) -> None:
    before = _left_legs.get(parts, {})
    asked: dict[str, tuple[UnitLeg, ...]] = {}

    def legs_of(sent: Recorded) -> tuple[UnitLeg, ...]:
        legs = before.get(sent.hash)
        if legs is None:
            legs = sent_legs(parts.streams, sent)
        if len(asked) < _MOST_LEFT:
            asked[sent.hash] = legs
        return legs

    settle_transfers(parts.ledger, legs_of, book)
    _left_legs[parts] = asked


class Front:
    """Submits facts with what they need first. `strict` assumes nothing.

    In a rehearsal, of which nothing may stay, it `keeps_notes` not.
    """

    def __init__(self, parts: Parts, *, strict: bool = False, keeps_notes: bool = True) -> None:
        self._parts = parts
        self._strict = strict
        self._keeps_notes = keeps_notes
        self._known_accounts: set[str] = set()
        self._known_instruments: set[str] = set()
        self._looked_up: dict[tuple[str, str], Entity | None] = {}

    def submit(self, facts: Sequence[Fact]) -> list[Answer | Missing]:
        """Return the answer to each fact, in order. Raises NotAmended, with these answers."""
        requests: list[Request] = []
        own: list[int | Missing] = []
        noted: list[tuple[int, str]] = []
        for fact in facts:
            missing = self._prepare(fact, requests)
            if missing is not None:
                own.append(missing)
                continue
            if fact.note:
                noted.append((len(requests), fact.note))
            own.append(len(requests))
            requests.append(fact.request)
        if noted and self._keeps_notes:
            self._keep_notes(requests, noted)
        answers = self._parts.ledger.submit(requests)
        if any(isinstance(request.command, SendTransfer) for request in requests):
            finish_transfers(self._parts)
        asked = zip(requests, answers, strict=True)
        told = [place if isinstance(place, Missing) else answers[place] for place in own]
        if defined := {one.key for one, answer in asked if _tells_terms(one, answer)}:
            try:
                amend_deals(self._parts, defined)
            except NotAmended as error:
                error.answers = told
                raise
        return told

    def zone_of(self, kind: str, name: str) -> str | None:
        """Return the time zone that is set for an account or an instrument, if it is known."""
        match self._look_up("account" if kind == "account" else "instrument", name):
            case Account() as account:
                return account.settings.time_zone
            case Instrument() as instrument:
                return instrument.terms.time_zone
            case _:
                return None

    def currency_of(self, instrument_id: str) -> str | None:
        """Return the currency that an instrument is defined in, if it is known."""
        entity = self._look_up("instrument", instrument_id)
        return entity.terms.currency if isinstance(entity, Instrument) else None

    def _prepare(self, fact: Fact, requests: list[Request]) -> Missing | None:
        """Add the requests that open what a fact needs; return what is missing in strict mode."""
        request = fact.request
        if topic_of(request.command) == "events":
            if isinstance(request.command, OpenAccount):
                self._known_accounts.add(request.key)
            elif request.key not in self._known_accounts and not self._knows_account(request.key):
                if self._strict or fact.opens is None:
                    return Missing(UNKNOWN_ACCOUNT, "account", request.key)
                requests.append(_first(request, "open", request.key, fact.opens))
                self._known_accounts.add(request.key)
        elif isinstance(request.command, DefineInstrument):
            self._known_instruments.add(request.key)
        for instrument_id, definition in fact.defines:
            if instrument_id in self._known_instruments or self._knows_instrument(instrument_id):
                continue
            if self._strict:
                return Missing(UNKNOWN_INSTRUMENT, "instrument", instrument_id)
            requests.append(_first(request, "define", instrument_id, definition))
            self._known_instruments.add(instrument_id)
        return None

    def _knows_account(self, account_id: str) -> bool:
        return _knows(self._known_accounts, account_id, lambda: self._fetch("account", account_id))

    def _knows_instrument(self, instrument_id: str) -> bool:
        return _knows(
            self._known_instruments,
            instrument_id,
            lambda: self._fetch("instrument", instrument_id),
        )

    def _look_up(self, kind: str, name: str) -> Entity | None:
        """Return an entity as it was when first asked for: asking for each row takes longest."""
        if (kind, name) not in self._looked_up:
            if len(self._looked_up) >= _REMEMBERED:
                self._looked_up.clear()
            self._looked_up[kind, name] = self._fetch(kind, name)
        return self._looked_up[kind, name]

    def _fetch(self, kind: str, name: str) -> Entity | None:
        ledger = self._parts.ledger
        partition = partition_of(name, ledger.log.partitions)
        if kind == "account":
            return ledger.fetch_entity(("events", partition), (name, "account", ""))
        return ledger.fetch_entity(("reference", partition), (name, "instrument", ""))

    def _keep_notes(self, requests: list[Request], noted: list[tuple[int, str]]) -> None:
        """Keep the notes of some requests, and have these say which they are."""
        named = [(place, f"note/{requests[place].command_id}", note) for place, note in noted]
        kept = self._parts.vault.keep([(note_id, note) for _, note_id, note in named])
        for place, note_id, _ in named:
            requests[place] = _with_note(requests[place], kept[note_id])


def _tells_terms(request: Request, answer: Answer) -> bool:
    """Tell whether a request defines an instrument of which something may have been assumed."""
    if not isinstance(request.command, DefineInstrument) or ASSUMED in request.flags:
        return False
    return answer.status != "accepted" or answer.event_type != _DEFINED_FIRST


def _with_note(request: Request, note: Kept) -> Request:
    command = request.command
    assert isinstance(command, MoveCash | ReverseCash)
    noted = msgspec.structs.replace(command, note_id=note.note_id, note_digest=note.digest)
    return msgspec.structs.replace(request, command=noted)


def _knows(known: set[str], name: str, fetch: Callable[[], Entity | None]) -> bool:
    if name not in known and fetch() is not None:
        known.add(name)
    return name in known


def _first(
    request: Request, what: str, key: str, command: OpenAccount | DefineInstrument
) -> Request:
    """Return the request that a fact needs first, under an id derived from the fact's."""
    return Request(
        command_id=_derived(request.command_id, what),
        key=key,
        event_time=request.event_time,
        command=command,
        actor=request.actor,
        causation_id=request.command_id,
        source=request.source,
        flags=(ASSUMED,),
    )


def _derived(command_id: str, what: str) -> str:
    """Return an id of its own for what a command needs first, the same each time."""
    derived = f"{command_id}/{what}"
    if len(derived) <= MAX_ID_LENGTH:
        return derived
    return f"{hashlib.blake2b(command_id.encode(), digest_size=16).hexdigest()}/{what}"
