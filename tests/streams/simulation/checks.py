"""What must hold of a world that has come to rest, as a fresh reader finds it."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from domain import decider
from domain.decisions import Accepted, Refused
from domain.entities import Entity
from domain.events import (
    CommandRefused,
    TransferReceived,
    TransferReturned,
    TransferSent,
)
from schemas import codec, validity
from schemas.envelope import Recorded
from schemas.registry import CONTROL_TYPES
from schemas.validity import PartitionState, Void
from streams.answers import Answer
from streams.memory import EntityRef
from streams.projecting import stamp
from tests.projections.row_store import fold_fresh, told
from tests.streams.simulation.mind import LOG_ID, KeyView, reference
from tests.streams.simulation.workers import OF_EVENTS
from tests.streams.simulation.world import World

_SETTINGS: Final = ("AccountOpened", "AccountChanged")
"""What an account is opened with is known already however it is told."""


class Fresh(Struct):
    """A partition as read from its beginning: the events that count, and how many do not."""

    state: PartitionState
    events: list[Recorded]
    voids: int


def read_afresh(world: World) -> list[Fresh]:
    """Read every partition from its beginning."""
    return [_read(world, partition) for partition in range(len(world.logs))]


def _read(world: World, partition: int) -> Fresh:
    log = world.logs[partition]
    state = PartitionState(topic="events", partition=partition)
    state.parked = validity.look_ahead(log)
    fresh = Fresh(state, [], 0)
    for record in log:
        outcome = validity.admit(state, record)
        if isinstance(outcome, Void):
            fresh.voids += 1
        elif outcome.envelope.type not in CONTROL_TYPES:
            fresh.events.append(outcome)
    return fresh


def faults(world: World, fresh: list[Fresh]) -> Iterator[str]:
    """Yield what is wrong."""
    yield from _answers(world, fresh)
    yield from _turned_down(world, fresh)
    for one in fresh:
        yield from _order(one)
        yield from _decisions(world, one)
        yield from _readers(world, one)
    yield from _transfers(fresh)
    yield from _read_models(world, fresh)


def _answers(world: World, fresh: list[Fresh]) -> Iterator[str]:
    applied: dict[tuple[str, str], list[Recorded]] = {}
    at: dict[tuple[int, int], Recorded] = {}
    for one in fresh:
        for recorded in one.events:
            envelope = recorded.envelope
            applied.setdefault((envelope.stream or "", envelope.command_id), []).append(recorded)
            at[recorded.partition, recorded.offset] = recorded
    for named, there in applied.items():
        if len(there) > 1:
            yield f"{named} applied at {[recorded.offset for recorded in there]}"
    for named, answers in world.answers.items():
        mine = applied.get(named, [None])[0]
        for content_hash, answer in answers:
            fault = _answer_fault(named[0], content_hash, answer, mine, at)
            if fault:
                yield f"{named} answered {answer.status} {answer.position}: {fault}"


def _turned_down(world: World, fresh: list[Fresh]) -> Iterator[str]:
    """A command that was told that nothing records it is not decided again as it was given then."""
    for recorded in (recorded for one in fresh for recorded in one.events):
        partition, offset = recorded.partition, recorded.offset
        given = world.deliveries.get((partition, world.logs[partition][offset].value))
        answer = None if given is None else world.turned_down.get((partition, given))
        if answer is not None:
            yield f"{partition}:{offset} is of command {given}, which was told {answer.reason}"


def _answer_fault(
    key: str,
    content_hash: str,
    answer: Answer,
    mine: Recorded | None,
    at: dict[tuple[int, int], Recorded],
) -> str | None:
    if answer.status == "lacking":
        return None
    if answer.status == "conflict":
        different = mine is not None and mine.envelope.command_hash != content_hash
        return None if different else "and no other content has its id"
    assert answer.offset is not None
    found = at.get((answer.partition, answer.offset))
    if found is None or found.envelope.stream != key:
        return "and no such record counts"
    refused = isinstance(found.event, CommandRefused)
    if refused != (answer.status == "refused"):
        return f"and a {found.envelope.type} is there"
    if found.envelope.command_hash != content_hash and found.envelope.type not in _SETTINGS:
        return "and another command's record is there"
    if (answer.replayed or answer.status != "duplicate") and found is not mine:
        return "and its own record is elsewhere"
    return None


def _order(one: Fresh) -> Iterator[str]:
    last = ""
    for recorded in one.events:
        if recorded.envelope.recorded_time < last:
            yield f"{recorded.partition}:{recorded.offset}: recorded time runs backwards"
        last = recorded.envelope.recorded_time


def _decisions(world: World, one: Fresh) -> Iterator[str]:
    """Decide every command once more on the events before its own: it must come to the same."""
    entities: dict[EntityRef, Entity] = {}
    for recorded in one.events:
        envelope = recorded.envelope
        key = envelope.stream or ""
        where = f"{recorded.partition}:{recorded.offset}"
        request = world.asked.get((key, envelope.command_id), {}).get(envelope.command_hash)
        if request is None:
            yield f"{where}: nobody asked for it"
            continue
        view = KeyView(entities, key, reference(one.state.partitions))
        decision = decider.decide(view, request, envelope.command_hash)
        if not _agrees(decision, recorded):
            yield f"{where}: {recorded.event} was recorded where {decision} is right"
        for kind, entity_id, entity in decider.evolve(view, stamp(recorded)):
            entities[key, kind, entity_id] = entity


def _agrees(decision: object, recorded: Recorded) -> bool:
    match decision, recorded.event:
        case Refused(reason=reason, numbers=numbers), CommandRefused() as refusal:
            return (reason, numbers) == (refusal.reason, refusal.numbers)
        case Accepted(event=event, flags=flags), found:
            same = codec.encode_event(event) == codec.encode_event(found)
            return same and flags == recorded.envelope.flags
        case _:
            return False


def _readers(world: World, one: Fresh) -> Iterator[str]:
    fresh = one.state
    for process in world.processes:
        state = process[fresh.partition].state.partition
        if (state.log_id, state.partitions) != (LOG_ID, len(world.logs)):
            yield f"a reader of {fresh.partition} takes the log for {state.log_id!r}"
        if (state.term, state.heads, state.next_offset) != (
            fresh.term,
            fresh.heads,
            fresh.next_offset,
        ):
            yield f"a reader of {fresh.partition} stands elsewhere than a fresh one"


def _transfers(fresh: list[Fresh]) -> Iterator[str]:
    sent: dict[tuple[str, str], Decimal] = {}
    ended: dict[tuple[str, str], list[tuple[str, Decimal]]] = {}
    for recorded in (recorded for one in fresh for recorded in one.events):
        account, event = recorded.envelope.stream or "", recorded.event
        match event:
            case TransferSent():
                sent[account, event.transfer_id] = event.cash[0].amount
            case TransferReceived():
                which = (event.from_account, event.transfer_id)
                ended.setdefault(which, []).append(("received", event.cash[0].amount))
            case TransferReturned():
                which = (account, event.transfer_id)
                ended.setdefault(which, []).append(("returned", event.cash[0].amount))
            case _:
                pass
    for which in sent.keys() | ended.keys():
        ends = ended.get(which, [])
        if [amount for _, amount in ends] != [sent.get(which)]:
            yield f"transfer {which} of {sent.get(which)} ended as {ends}"


def _read_models(world: World, fresh: list[Fresh]) -> Iterator[str]:
    for checkpoint in world.workers.models.checkpoints().values():
        if checkpoint.halted is not None:
            yield f"{checkpoint.projection} stands still: {checkpoint.halted}"
    events = [stamp(recorded) for one in fresh for recorded in one.events]
    for projection in OF_EVENTS:
        fold = fold_fresh(projection, events)
        for table in projection.tables:
            stored: Any = told(table, world.workers.models.rows.rows(table))
            if stored != told(table, fold.rows(table)):
                yield f"{table.name} differs from a fresh fold"
