"""The ownership protocol under a seeded simulation, and what breaks without each of its rules.

Three candidates for one partition are paused, crash and come back; their appends are lost, land
late, or land twice; commands are delivered again; clocks disagree. The steps and the rules of
validity are the real ones; only the log is a list. DAYBOOK_SIMULATION_STEPS says how many steps to
take, DAYBOOK_SIMULATION_SEED which seed to start from: a failure names the seed of its world.
"""

import os
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Final

import pytest

from domain.events import CashMoved, LogCreated, TermStarted
from domain.times import Instant, from_ns, to_ns
from schemas import codec, validity
from schemas.envelope import Envelope, Record, Recorded
from schemas.registry import CONTROL_TYPES
from schemas.validity import Halt, PartitionState, Void
from streams import ownership
from streams.log import Draft
from streams.ownership import Ownership

RULES: Final = frozenset(
    {"term", "seq", "ack_after_readback", "read_to_own_term", "new_term_after_unknown"}
)
STEPS_PER_WORLD: Final = 4000
_START_NS: Final = to_ns(Instant("2024-01-02T12:00:00.000000000Z"))
_MOST_PENDING: Final = 4
_ACCOUNTS: Final = ("A", "B")
_DATA: Final = codec.encode_event(
    CashMoved(cash_id="m", kind="deposit", amount=Decimal(1), currency="USD")
)

Admit = Callable[[PartitionState, Record], Recorded | Void]


def envelope(record_id: str, event_type: str, **told: object) -> Envelope:
    now = from_ns(_START_NS)
    fields = {"event_time": now, "recorded_time": now, "data": _DATA} | told
    return Envelope(id=record_id, type=event_type, **fields)  # type: ignore[arg-type]


class Candidate:
    """Drives the protocol's steps as a decider would, over what the world lets it see."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.clock_skew_ns = world.rng.randrange(-5_000_000, 5_000_000)
        partition = PartitionState(topic="events", partition=0)
        self.state = Ownership(owner=name, partition=partition)
        self.flight: list[list[Draft]] = []
        self.offset_of: dict[str, int] = {}
        self.command_of: dict[str, str] = {}
        self.cursor = world.committed

    def now_ns(self) -> int:
        return _START_NS + self.world.now_ns + self.clock_skew_ns

    def restart(self) -> None:
        """Start again from what was read: what was written is pending no longer."""
        self.command_of.clear()
        self.cursor = self.world.committed

    def unknown(self) -> None:
        if "new_term_after_unknown" in self.world.rules:
            ownership.lose_track(self.state)
        else:
            self.state.pending.clear()
            self.state.ahead.clear()
        self.restart()

    def step(self) -> None:
        log = self.world.log
        if self.state.partition.next_offset < len(log):
            self.read(log[self.state.partition.next_offset])
        elif self.state.phase == "following":
            self.claim()
        elif self.state.phase == "owning" and len(self.state.pending) < _MOST_PENDING:
            self.decide()
        elif self.state.phase == "deposed" and self.world.rng.random() < 0.05:
            ownership.assign(self.state)

    def read(self, record: Record) -> None:
        observed = ownership.observe(self.state, record)
        outcome = observed.outcome
        if isinstance(outcome, Recorded) and outcome.envelope.command_id:
            self.offset_of.setdefault(outcome.envelope.command_id, outcome.offset)
        if observed.effect == "acknowledged":
            assert isinstance(outcome, Recorded)
            self.command_of.pop(outcome.envelope.id)
            self.world.acknowledge(outcome.envelope.command_id, outcome.offset)
            if not self.state.pending:
                self.world.committed = max(self.world.committed, self.cursor)
        elif observed.effect in ("lost", "deposed"):
            self.restart()

    def claim(self) -> None:
        draft = ownership.claim(self.state, self.world.new_id(), self.now_ns())
        self.flight.append([draft])
        if "read_to_own_term" not in self.world.rules:
            self.state.phase = "owning"
            self.state.partition.term = self.state.claim_term

    def decide(self) -> None:
        drafts = []
        for _ in range(self.world.rng.randrange(1, 3)):
            if self.cursor == len(self.world.commands):
                break
            command = self.world.commands[self.cursor]
            self.cursor += 1
            if command in self.offset_of:
                self.world.acknowledge(command, self.offset_of[command])
            elif command not in self.command_of.values():
                drafts.append(self.propose(command))
        if drafts:
            self.flight.append(drafts)

    def propose(self, command: str) -> Draft:
        record_id = self.world.new_id()
        self.command_of[record_id] = command
        account = _ACCOUNTS[int(command) % len(_ACCOUNTS)]
        told = envelope(record_id, "CashMoved", account=account, command_id=command)
        if "ack_after_readback" not in self.world.rules:
            self.world.acknowledge(command, None)
        return ownership.propose(self.state, told, self.now_ns())


class World:
    """One partition, its commands, and whoever believes to own it."""

    def __init__(self, seed: int, rules: frozenset[str]) -> None:
        self.rng = random.Random(seed)
        self.rules = rules
        self.log: list[Record] = []
        self.commands: list[str] = []
        self.committed = 0
        self.now_ns = 0
        self.acknowledged: dict[str, set[int | None]] = {}
        self.asleep: dict[int, int] = {}
        self.orphans: list[list[Draft]] = []
        self._ids = 0
        created = LogCreated(log_id="L", topic="events", partition=0, partitions=1)
        first = envelope("0", "LogCreated", data=codec.encode_event(created))
        self.land([Draft(None, codec.encode(first))])
        self.candidates = [Candidate(self, f"owner {number}") for number in range(3)]

    def new_id(self) -> str:
        self._ids += 1
        return f"id-{self._ids}"

    def acknowledge(self, command: str, offset: int | None) -> None:
        self.acknowledged.setdefault(command, set()).add(offset)

    def land(self, drafts: list[Draft]) -> None:
        for draft in drafts:
            self.log.append(Record("events", 0, len(self.log), draft.key, draft.value))

    def step(self, number: int) -> None:
        rng = self.rng
        self.now_ns += rng.randrange(1_000_000)
        if rng.random() < 0.15:
            self.commands.append(str(rng.randrange(number // 6 + 1)))
        which = rng.randrange(len(self.candidates))
        if self.asleep.get(which, 0) <= number:
            chance = rng.random()
            if chance < 0.004:
                self.asleep[which] = number + rng.randrange(400)
            elif chance < 0.008:
                self.crash(which)
            else:
                self.candidates[which].step()
        self.deliver()

    def crash(self, which: int) -> None:
        fallen = self.candidates[which]
        self.orphans += fallen.flight
        self.candidates[which] = Candidate(self, f"{fallen.name}'")

    def deliver(self) -> None:
        """Let the first append of somebody's land, or go wrong."""
        rng = self.rng
        which = rng.randrange(len(self.candidates) + 1)
        sender = self.candidates[which] if which < len(self.candidates) else None
        queue = self.orphans if sender is None else sender.flight
        if not queue or rng.random() < 0.5:
            return
        drafts = queue.pop(0)
        fate = rng.random()
        if fate < 0.02:
            pass
        elif fate < 0.04:
            self.land(drafts)
            self.land(drafts)
        elif fate < 0.06 and sender is not None:
            self.orphans.append(drafts)
        else:
            self.land(drafts)
        if sender is not None and (fate < 0.02 or 0.04 <= fate < 0.08):
            # Lost, or late, or there and the answer lost: to its sender all the same.
            self.orphans += sender.flight
            sender.flight = []
            sender.unknown()

    def faults(self, admit: Admit) -> list[str]:
        """Return what a fresh reader finds wrong in the end."""
        state = PartitionState(topic="events", partition=0)
        applied: dict[str, list[int]] = {}
        last_time = from_ns(0)
        found = []
        for record in self.log:
            try:
                outcome = admit(state, record)
            except Halt as halt:
                return [f"halted: {halt}"]
            if isinstance(outcome, Void) or outcome.envelope.type in CONTROL_TYPES:
                continue
            applied.setdefault(outcome.envelope.command_id, []).append(outcome.offset)
            if outcome.envelope.recorded_time < last_time:
                found.append(f"{outcome.offset}: recorded time runs backwards")
            last_time = outcome.envelope.recorded_time
        found += [f"command {c} applied at {at}" for c, at in applied.items() if len(at) > 1]
        for command, answers in self.acknowledged.items():
            there = applied.get(command)
            if there is None:
                found.append(f"command {command} acknowledged and lost")
            elif not answers <= {there[0], None}:
                found.append(f"command {command} answered {answers}, and is at {there}")
        return found


def run(seed: int, rules: frozenset[str], admit: Admit) -> tuple[World, list[str]]:
    world = World(seed, rules)
    try:
        for number in range(STEPS_PER_WORLD):
            world.step(number)
    except Halt as halt:
        return world, [f"an owner halted: {halt}"]
    return world, world.faults(admit)


def without_term(state: PartitionState, record: Record) -> Recorded | Void:
    """Admit events of any term."""
    told = codec.envelope(record.value)
    if told.type in CONTROL_TYPES:
        return validity.admit(state, record)
    term, state.term = state.term, told.term
    try:
        outcome = validity.judge(state, record)
    finally:
        state.term = term
    validity.advance(state, outcome)
    return outcome


def without_seq(state: PartitionState, record: Record) -> Recorded | Void:
    """Admit events of any seq, as if each followed its stream's last."""
    told = codec.envelope(record.value)
    if told.stream is None:
        return validity.admit(state, record)
    before = state.heads.get(told.stream)
    state.heads[told.stream] = (told.seq - 1, told.prev_hash)
    outcome = validity.judge(state, record)
    if before is None:
        del state.heads[told.stream]
    else:
        state.heads[told.stream] = before
    validity.advance(state, outcome)
    return outcome


def test_nothing_acknowledged_is_lost_and_nothing_applied_twice() -> None:
    steps = int(os.environ.get("DAYBOOK_SIMULATION_STEPS", "200000"))
    first = int(os.environ.get("DAYBOOK_SIMULATION_SEED", "0"))
    valid = voids = terms = 0
    for seed in range(first, first + max(steps // STEPS_PER_WORLD, 1)):
        world, faults = run(seed, RULES, validity.admit)
        assert not faults, f"DAYBOOK_SIMULATION_SEED={seed} DAYBOOK_SIMULATION_STEPS=1: {faults}"
        state = PartitionState(topic="events", partition=0)
        outcomes = [validity.admit(state, record) for record in world.log]
        voids += sum(isinstance(outcome, Void) for outcome in outcomes)
        valid += sum(count for count, _ in state.heads.values())
        terms += state.term
    worlds = max(steps // STEPS_PER_WORLD, 1)
    assert valid > 100 * worlds
    assert voids > 10 * worlds
    assert terms > 10 * worlds


@pytest.mark.parametrize("rule", sorted(RULES))
def test_each_rule_is_needed(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    admit: Admit = {"term": without_term, "seq": without_seq}.get(rule, validity.admit)
    monkeypatch.setattr(ownership, "admit", admit)
    caught = None
    for seed in range(50):
        _, faults = run(seed, RULES - {rule}, admit)
        if faults:
            caught = faults
            break
    assert caught is not None, f"leaving out {rule} went unnoticed"


def test_a_world_is_the_same_every_time() -> None:
    first, second = (run(7, RULES, validity.admit)[0] for _ in range(2))
    assert first.log == second.log
    assert any(
        isinstance(codec.decode(record).event, TermStarted)
        for record in first.log
        if not record.key
    )
