"""Instruments, portfolios, corporate actions and prices."""

from typing import Final

import msgspec

from domain import commands, events
from domain.accounts import (
    ASSUMED,
    is_earlier,
    is_same,
    refused_as_earlier,
    was_told,
    with_earlier,
)
from domain.commands import Request
from domain.decisions import Accepted, Decision, Known, Refused, Stamped, View
from domain.entities import Entity, Instrument, Named
from domain.events import Event, InstrumentFields

_INSTRUMENT_FIELDS: Final = InstrumentFields.__struct_fields__


def decide_reference(view: View, request: Request, content_hash: str) -> Decision:
    """Decide on what is defined or announced: told again unchanged, it is known already."""
    command = request.command
    match command:
        case commands.DefineInstrument():
            return _define(view, request, command)
        case commands.IdentifyInstrument():
            identified = events.InstrumentIdentified(**msgspec.structs.asdict(command))
            return _named(
                view, "identifier", f"{command.scheme}:{command.value}", content_hash, identified
            )
        case commands.DefinePortfolio():
            defined = events.PortfolioDefined(**msgspec.structs.asdict(command))
            return _named(view, "portfolio", "", content_hash, defined)
        case commands.AnnounceCorporateAction():
            announced = events.CorporateActionAnnounced(**msgspec.structs.asdict(command))
            decision = _named(view, "action", command.action_id, content_hash, announced)
            if view.get("action", command.action_id) and isinstance(decision, Accepted):
                return Refused("conflict", {"id": command.action_id})
            return decision
        case commands.CorrectCorporateAction():
            corrected = events.CorporateActionCorrected(**msgspec.structs.asdict(command))
            return _about_action(
                view, command.action_id, command.ref_action_id, corrected, content_hash
            )
        case commands.CancelCorporateAction():
            cancelled = events.CorporateActionCancelled(**msgspec.structs.asdict(command))
            return _about_action(
                view, command.action_id, command.ref_action_id, cancelled, content_hash
            )
        case _:
            raise AssertionError(f"{type(command).__name__} is not a command about reference data")


def _define(view: View, request: Request, command: commands.DefineInstrument) -> Decision:
    existing = view.get("instrument", "")
    told = {name: getattr(command, name) for name in _INSTRUMENT_FIELDS}
    if not isinstance(existing, Instrument):
        return Accepted(events.InstrumentDefined(**told), request.flags)
    if ASSUMED in request.flags:
        return Known(existing.offset, existing.seq)
    held = existing.terms
    if is_earlier(told, held):
        if was_told(told, existing.earlier, held):
            return Known(existing.offset, existing.seq)
        return refused_as_earlier(told, held)
    if not existing.assumed and is_same(told, held) and command.from_date == held.from_date:
        return Known(existing.offset, existing.seq)
    return Accepted(events.InstrumentChanged(**told))


def _named(view: View, kind: str, name: str, content_hash: str, event: Event) -> Decision:
    existing = view.get(kind, name)
    if isinstance(existing, Named) and existing.content_hash == content_hash:
        return Known(existing.offset, existing.seq)
    return Accepted(event)


def _about_action(
    view: View, own_id: str, ref_id: str, event: Event, content_hash: str
) -> Decision:
    decision = _named(view, "action", own_id, content_hash, event)
    told_before = isinstance(decision, Accepted) and view.get("action", own_id) is not None
    if told_before and own_id != ref_id:
        return Refused("conflict", {"id": own_id})
    if isinstance(decision, Accepted) and view.get("action", ref_id) is None:
        return Accepted(event, ("unknown_action",))
    return decision


def evolve_reference(view: View, stamped: Stamped) -> list[tuple[str, str, Entity]]:
    """Return the entities that an event of the reference topic changes."""
    event = stamped.event
    match event:
        case events.InstrumentDefined() | events.InstrumentChanged():
            return [("instrument", "", _evolve_instrument(view, stamped, event))]
        case events.InstrumentIdentified():
            return [("identifier", f"{event.scheme}:{event.value}", _named_entity(stamped))]
        case events.PortfolioDefined():
            return [("portfolio", "", _named_entity(stamped))]
        case (
            events.CorporateActionAnnounced()
            | events.CorporateActionCorrected()
            | events.CorporateActionCancelled()
        ):
            return [("action", event.action_id, _named_entity(stamped))]
        case _:
            raise AssertionError(f"{type(event).__name__} is not an event of reference data")


def _evolve_instrument(view: View, stamped: Stamped, terms: InstrumentFields) -> Instrument:
    before = view.get("instrument", "")
    earlier: tuple[InstrumentFields, ...] = ()
    if isinstance(before, Instrument) and not before.assumed:
        earlier = with_earlier(before.earlier, before.terms)
    return Instrument(
        terms=terms,
        partition=stamped.partition,
        offset=stamped.offset,
        seq=stamped.seq,
        assumed=ASSUMED in stamped.flags,
        earlier=earlier,
    )


def _named_entity(stamped: Stamped) -> Named:
    return Named(content_hash=stamped.content_hash, offset=stamped.offset, seq=stamped.seq)


def decide_price(_view: View, request: Request, _content_hash: str) -> Decision:
    """Decide on a price: always recorded; another price of the same moment is a revision."""
    assert isinstance(request.command, commands.RecordPrice)
    event = events.PriceRecorded(**msgspec.structs.asdict(request.command))
    return Accepted(event, request.flags)
