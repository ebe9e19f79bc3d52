"""A ledger in memory: commands decided one after the other, their events stamped and evolved."""

from typing import Any

from domain.commands import Command, Request, topic_of
from domain.decider import decide, evolve
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, Stamped
from domain.entities import Entity
from domain.events import CommandRefused
from domain.times import Instant, from_ns, to_ns
from schemas.canonical import command_hash

NOON = Instant("2024-01-02T17:00:00.000000000Z")
_EPOCH_NS = to_ns(NOON)


def at(second: int) -> Instant:
    """An instant so many seconds after noon in New York."""
    return from_ns(_EPOCH_NS + second * 1_000_000_000)


class _View:
    def __init__(self, journal: "Journal", topic: str, key: str) -> None:
        self._journal, self._topic, self._key = journal, topic, key

    def get(self, kind: str, entity_id: str) -> Entity | None:
        if kind == "instrument" and self._topic == "events":
            return self._journal.entities.get(("reference", entity_id, "instrument", ""))
        return self._journal.entities.get((self._topic, self._key, kind, entity_id))


class Journal:
    """Decides commands into `events` (by topic); offsets count the records of a topic from 1."""

    def __init__(self) -> None:
        self.entities: dict[tuple[str, str, str, str], Entity] = {}
        self.events: dict[str, list[Stamped]] = {"events": [], "prices": [], "reference": []}
        self.decisions: list[Decision] = []
        self._seqs: dict[tuple[str, str], int] = {}
        self._requests = 0

    def submit(
        self,
        command: Command,
        key: str = "A1",
        at_time: Instant = NOON,
        flags: tuple[str, ...] = (),
    ) -> Decision:
        """Decide a command; what is recorded is stamped and evolved."""
        self._requests += 1
        request = Request(
            command_id=f"r{self._requests}",
            key=key,
            event_time=at_time,
            command=command,
            flags=flags,
        )
        view = _View(self, topic_of(command), key)
        content_hash = command_hash(request)
        decision = decide(view, request, content_hash)
        self.decisions.append(decision)
        match decision:
            case Accepted(event=event, flags=found):
                self._record(view, request, event, found, content_hash)
            case Refused(reason=reason, numbers=numbers):
                refusal = CommandRefused(
                    reason=reason, command_type=type(command).__name__, asked={}, numbers=numbers
                )
                self._record(view, request, refusal, flags, content_hash)
            case Known() | Lacking():
                pass
        return decision

    def _record(
        self, view: _View, request: Request, event: Any, flags: tuple[str, ...], content_hash: str
    ) -> None:
        topic, key = topic_of(request.command), request.key
        seq = self._seqs[topic, key] = self._seqs.get((topic, key), 0) + 1
        offset = len(self.events[topic]) + 1
        stamped = Stamped(
            event=event,
            key=key,
            seq=seq,
            offset=offset,
            event_time=request.event_time,
            recorded_time=from_ns(_EPOCH_NS + 10**15 + offset),
            content_hash=content_hash,
            flags=flags,
        )
        for kind, entity_id, entity in evolve(view, stamped):
            self.entities[topic, key, kind, entity_id] = entity
        self.events[topic].append(stamped)

    def entity(self, kind: str, entity_id: str, key: str = "A1") -> Entity | None:
        """What is remembered of an account's deal, order, ..."""
        return self.entities.get(("events", key, kind, entity_id))

    def accept(self, command: Command, **told: Any) -> Accepted:
        """Decide a command that must be accepted."""
        decision = self.submit(command, **told)
        assert isinstance(decision, Accepted), decision
        return decision

    def refuse(self, command: Command, **told: Any) -> str:
        """Decide a command that must be refused; return why."""
        decision = self.submit(command, **told)
        assert isinstance(decision, Refused), decision
        return decision.reason
