"""One process as an owner of one partition: it drives the decider's own parts, step by step."""

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from domain import decider
from streams import ownership
from streams.answers import Answer
from streams.batch import Rules
from streams.deciding.following import Follower
from streams.deciding.lane import Flight, Lane, Waiting
from streams.deciding.owning import Held, OwnedPartition, turned_away
from streams.deciding.wire import Route, decode_reply, encode_reply
from streams.log import Draft
from tests.streams.dict_store import DictStore
from tests.streams.simulation.mind import LOG_ID, Forgetful, copied, reference

if TYPE_CHECKING:
    from tests.streams.simulation.world import World


_LIMITS: Final = (4, 1000, 1000)
"""How many commands may wait: some owners have room for few."""


class _Told(Struct, frozen=True):
    """A record of the commands topic, as far as an owned partition looks at one."""

    offset: int
    value: bytes = b""


class Candidate:
    """Reads, claims, decides and answers; knows only what the world lets it see."""

    def __init__(
        self, world: "World", process: int, partition: int, disk: DictStore | None
    ) -> None:
        self.world = world
        self.process = process
        self.partition = partition
        self.clock_skew_ns = world.rng.randrange(-5_000_000, 5_000_000)
        if disk is not None:
            self.store = copied(disk)
        else:
            self.store = Forgetful() if world.lacks("ids") else DictStore()
        partitions = len(world.logs)
        place = "events", partition
        self.follower = Follower(
            place,  # type: ignore[arg-type]
            LOG_ID,
            partitions,
            self.store,
            decider.evolve,
            f"process {process}",
            memory_size=world.rng.choice((2, 50)),
        )
        rules = Rules(decider.decide, decider.evolve, self.now_ns, world.new_id, "simulated")
        self.lane = Lane(self.follower, reference(partitions), rules, memory_size=50)
        self.flight: list[list[Draft]] = []
        self.is_assigned = True
        self.generation = 0
        limit = world.rng.choice(_LIMITS)
        self.owned = OwnedPartition(partition, {"events": self.lane}, limit=limit)
        self.begin_anew()

    @property
    def state(self) -> ownership.Ownership:
        """What it knows of who owns the partition."""
        return self.follower.ownership

    def disk(self) -> DictStore:
        """Return what it would find after a crash, if all was written down by now."""
        return copied(self.store)

    def now_ns(self) -> int:
        return self.world.now_ns + self.clock_skew_ns

    def step(self) -> None:
        """Take the one step that is next: an owner may decide before it has read to the head."""
        rng, phase = self.world.rng, self.state.phase
        behind = self.follower.next_offset < len(self.world.logs[self.partition])
        if self.is_assigned and self.lane.owns and not self.lane.is_proven:
            self._prove()
        may_decide = self.is_assigned and self.lane.is_proven
        may_decide = may_decide and len(self.lane.in_flight) < self.world.depth
        if behind and not (may_decide and rng.random() < 0.2):
            self.read()
        elif may_decide:
            self.decide()
        elif phase == "following" and self.is_assigned:
            self.claim()
        elif phase == "deposed" and self.is_assigned and rng.random() < 0.05:
            ownership.assign(self.state)
        if rng.random() < 0.05:
            self._commit()

    # --- reading -------------------------------------------------------------------------------

    def read(self) -> None:
        """Take a few records in; one that halts is tried again, knowing what was parked."""
        next_offset = self.follower.next_offset
        records = self.world.fetch(self.partition, next_offset)
        taken = self.follower.take(records)
        observed = taken.observed
        if taken.halt is not None and taken.halt.offset == self.follower.next_offset:
            self.world.expect_halt(self.partition, taken.halt)
            log = self.world.logs[self.partition]
            if self.follower.look_ahead(log[taken.halt.offset + 1 :]):
                observed = observed + self.follower.take([log[taken.halt.offset]]).observed
        self.world.passed(self.partition, next_offset, self.follower.next_offset)
        for flight in self._learned(observed):
            self._answer(flight)

    def _learned(self, observed: list[ownership.Observed]) -> list[Flight]:
        memory = self.lane._memory
        landed = self.lane.learn(observed)
        if self.world.lacks("dropped_overlay"):
            self.lane._memory = memory
        return landed

    def _answer(self, flight: Flight) -> None:
        known = {at: self.world.record(self.partition, at) for at in flight.known_offsets}
        answers = self.lane.answers(flight, known)
        for one, answer in zip(flight.waiting, answers, strict=True):
            if not one.is_done:
                self._tell(one, answer)
        if self.world.is_calm or self.world.rng.random() < 0.3:
            self._commit()

    def _tell(self, one: Waiting, answer: Answer) -> None:
        """Tell what is recorded; what is not is told once the command cannot be decided again."""
        if answer.status != "lacking":
            one.is_done = True
            self.world.reply(self.partition, one.offset, answer)
        elif self.world.lacks("told_once_committed"):
            one.is_done = True
            self.world.reply(self.partition, one.offset, answer)
        else:
            self.owned.hold_back([(one, encode_reply(answer))])

    # --- the group -----------------------------------------------------------------------------

    def begin_anew(self) -> None:
        """Go on from the offset that the group has; what is in flight may not be decided again."""
        waiting = [one for flight in self.lane.in_flight for one in flight.waiting]
        self.owned.restart()
        if self.world.lacks("stale_given_up"):
            for one in waiting:
                one.is_stale = False
        self.owned.next_offset = self.world.committed[self.partition]
        self._proof: tuple[int, int] | None = None

    def learn(self, *, is_assigned: bool, generation: int) -> None:
        """Hear from the group."""
        self.is_assigned, self.generation = is_assigned, generation
        self.begin_anew()

    def _prove(self) -> None:
        """Ask the group, look where the log ends, and have read that far: one after the other."""
        if self.world.lacks("proof"):
            self.lane.prove(self.state.claim_term)
            return
        if self._proof is None or self._proof[0] != self.state.claim_term:
            if self.world.is_member(self):
                self._proof = self.state.claim_term, len(self.world.logs[self.partition])
        elif self.follower.next_offset >= self._proof[1]:
            self.lane.prove(self.state.claim_term)

    def _commit(self) -> None:
        """Have the group note what is done: only a member of its present generation can."""
        offset = self.owned.done_offset
        if offset is None or not self.world.commit(self, offset):
            return
        for one in self.owned.release(offset):
            self.world.reply(self.partition, one.offset, _answer_of(one))

    # --- losing --------------------------------------------------------------------------------

    def unknown(self) -> None:
        """Take note that nobody knows whether the last append landed."""
        memory = self.lane._memory
        if self.world.lacks("term_after_unknown"):
            self.state.pending.clear()
            self.lane._drop_overlay()
        else:
            self.lane.lose_track()
        if self.world.lacks("dropped_overlay"):
            self.lane._memory = memory

    # --- writing -------------------------------------------------------------------------------

    def claim(self) -> None:
        self.flight.append([self.lane.claim()])
        if self.world.lacks("reading_to_own_term"):
            self.state.phase = "owning"
            self.state.partition.term = self.state.claim_term

    def decide(self) -> None:
        waiting = self._next()
        if not waiting:
            return
        log = self.world.logs[self.partition]
        first = {ref: log[at] for ref, at in self.lane.asked_before(waiting).items()}
        flight = self.lane.decide(waiting, first)
        if flight.drafts:
            self.flight.append(flight.drafts)
            self.world.note_decided(self.partition, flight)
        if self.world.lacks("read_back"):
            for one, answer in zip(flight.waiting, flight.batch.answers, strict=True):
                if answer.offset is not None:
                    one.is_done = True
                    self.world.reply(self.partition, one.offset, answer)
        for landed in self.lane.landed():
            self._answer(landed)

    def _next(self) -> list[Waiting]:
        """Take what is asked next, a few commands, up to one that is in flight already."""
        count = self.world.rng.randrange(1, 9)
        queue = self.lane.queue
        self._take_in(count)
        chunk = [queue.popleft() for _ in range(min(count, len(queue)))]
        self.lane.prepare(chunk)
        flying = self.lane.in_flight_refs()
        cut = next((at for at, one in enumerate(chunk) if one.ref in flying), len(chunk))
        queue.extendleft(reversed(chunk[cut:]))
        return chunk[:cut]

    def _take_in(self, count: int) -> None:
        """Read a few commands; there may not be room for all."""
        commands, owned = self.world.commands[self.partition], self.owned
        assert owned.next_offset is not None
        for offset in range(owned.next_offset, min(owned.next_offset + count, len(commands))):
            if owned.is_full:
                return
            # Each was asked by itself: nobody is turned away for another's sake.
            asked, route = commands[offset], Route(ask=offset.to_bytes(16))
            if owned.receive(_Told(offset), asked, route) is not None:
                continue
            answer = turned_away(asked, self.partition)
            if self.world.lacks("told_once_committed"):
                self.world.reply(self.partition, offset, answer)
            else:
                owned.hold([Held(offset, route, 0, encode_reply(answer), asked)])


def _answer_of(one: Held) -> Answer:
    answer = decode_reply(one.value).answer
    assert answer is not None
    return answer
