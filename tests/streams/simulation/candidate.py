"""One process as an owner of one partition: it drives the decider's own parts, step by step."""

from typing import TYPE_CHECKING

from domain import decider
from domain.commands import Request
from streams import ownership
from streams.batch import Rules
from streams.deciding.following import Follower
from streams.deciding.index import DictStore
from streams.deciding.lane import Flight, Lane, Waiting
from streams.deciding.wire import Route
from streams.log import Draft
from tests.streams.simulation.mind import LOG_ID, Forgetful, copied, reference

if TYPE_CHECKING:
    from tests.streams.simulation.world import World


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
        self.cursor = world.committed[partition]
        self.is_assigned = True

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
        may_decide = self.is_assigned and self.lane.owns
        may_decide = may_decide and len(self.lane.in_flight) < self.world.depth
        if behind and not (may_decide and rng.random() < 0.2):
            self.read()
        elif may_decide:
            self.decide()
        elif phase == "following" and self.is_assigned:
            self.claim()
        elif phase == "deposed" and self.is_assigned and rng.random() < 0.05:
            ownership.assign(self.state)

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
        was_deposed = any(one.effect == "deposed" for one in observed)
        for flight in self._learned(observed):
            self._answer(flight)
        if was_deposed:
            self.stand_down()

    def _learned(self, observed: list[ownership.Observed]) -> list[Flight]:
        memory = self.lane._memory
        landed = self.lane.learn(observed)
        if self.world.lacks("dropped_overlay"):
            self.lane._memory = memory
        return landed

    def _answer(self, flight: Flight) -> None:
        log = self.world.logs[self.partition]
        known = {offset: log[offset] for offset in flight.known_offsets}
        if not self.world.lacks("read_back"):
            answers = self.lane.answers(flight, known)
            for one, answer in zip(flight.waiting, answers, strict=True):
                self.world.reply(one, answer)
        if self.world.is_calm or self.world.rng.random() < 0.9:
            self._commit()

    def _commit(self) -> None:
        waiting = [one for flight in self.lane.in_flight for one in flight.waiting]
        offsets = [one.offset for one in (*waiting, *self.lane.queue)]
        self.world.committed[self.partition] = min([self.cursor, *offsets])

    # --- losing --------------------------------------------------------------------------------

    def stand_down(self) -> None:
        """Let go of what was asked: the next owner reads it from the topic again."""
        self.lane.queue.clear()
        self.cursor = self.world.committed[self.partition]

    def unknown(self) -> None:
        """Take note that nobody knows whether the last append landed."""
        memory = self.lane._memory
        if self.world.lacks("term_after_unknown"):
            self.state.pending.clear()
            self.state.ahead.clear()
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
        if self.world.lacks("read_back"):
            for one, answer in zip(flight.waiting, flight.batch.answers, strict=True):
                if answer.offset is not None:
                    self.world.reply(one, answer)
        for landed in self.lane.landed():
            self._answer(landed)

    def _next(self) -> list[Waiting]:
        """Take what is asked next, a few commands, up to one that is in flight already."""
        count = self.world.rng.randrange(1, 9)
        queue = self.lane.queue
        commands = self.world.commands[self.partition]
        while len(queue) < count and self.cursor < len(commands):
            queue.append(self._waiting(commands[self.cursor]))
            self.cursor += 1
        chunk = [queue.popleft() for _ in range(min(count, len(queue)))]
        self.lane.prepare(chunk)
        flying = self.lane.in_flight_refs()
        cut = next((at for at, one in enumerate(chunk) if one.ref in flying), len(chunk))
        queue.extendleft(reversed(chunk[cut:]))
        return chunk[:cut]

    def _waiting(self, request: Request) -> Waiting:
        return Waiting(self.cursor, request, Route(), 0, 0)
