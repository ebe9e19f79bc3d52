"""A world: partitions, processes that believe to own them, a network that loses and delays."""

import random
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from domain.commands import Request
from domain.events import LogCreated
from domain.times import Instant, from_ns, to_ns
from schemas import codec
from schemas.canonical import command_hash
from schemas.envelope import Envelope, Record
from schemas.partitioning import partition_of
from schemas.validity import Halt
from streams.answers import Answer
from streams.deciding.lane import Flight
from streams.log import Draft
from tests.streams.dict_store import DictStore
from tests.streams.simulation.candidate import Candidate
from tests.streams.simulation.courier import Courier
from tests.streams.simulation.damage import Vandal
from tests.streams.simulation.load import Load
from tests.streams.simulation.mind import LOG_ID
from tests.streams.simulation.workers import Workers

STEPS: Final = 5000
"""Steps of a world; then it is let come to rest, and looked at."""
_START_NS: Final = to_ns(Instant("2024-01-03T12:00:00.000000000Z"))
_REST_ROUNDS: Final = 20_000


class Fault(Exception):  # noqa: N818 - what the simulation is there to find
    """Something happened that must not."""


class Size(Struct, frozen=True):
    """How large a world is; `depth` is how many batches an owner may have in flight."""

    processes: int = 3
    partitions: int = 1
    accounts: int = 4
    depth: int = 2


SIZES: Final = (
    Size(),
    Size(processes=2, partitions=2, accounts=5),
    Size(processes=2, partitions=1, accounts=2, depth=4),
    Size(processes=3, partitions=2, accounts=6, depth=3),
    Size(processes=4, partitions=1, accounts=1, depth=4),
)


class World:
    """Everything there is, and one step of it after the other. `without` says what is left out."""

    def __init__(self, seed: int, size: Size, without: frozenset[str] = frozenset()) -> None:
        self.rng = random.Random(seed)
        self.without = without
        self.depth = size.depth
        self.now_ns = _START_NS
        self.is_calm = False
        self._ids = 0
        partitions = range(size.partitions)
        self.logs: list[list[Record]] = [[] for _ in partitions]
        self.commands: list[list[Request]] = [[] for _ in partitions]
        self.committed = [0 for _ in partitions]
        self.generations = [0 for _ in partitions]
        self.members = [0 for _ in partitions]
        self.deliveries: dict[tuple[int, bytes], int] = {}
        self.turned_down: dict[tuple[int, int], Answer] = {}
        self.asked: dict[tuple[str, str], dict[str, Request]] = {}
        self.answers: dict[tuple[str, str], list[tuple[str, Answer]]] = {}
        self.told: dict[tuple[str, str, str], Answer] = {}
        self.unanswered: dict[tuple[str, str, str], Request] = {}
        self.asleep: dict[int, int] = {}
        self.orphans: list[tuple[int, list[list[Draft]]]] = []
        for partition in partitions:
            self._create(partition)
        self.load = Load(self.rng, [f"A{number}" for number in range(size.accounts)])
        self.processes = [
            [Candidate(self, number, partition, None) for partition in partitions]
            for number in range(size.processes)
        ]
        self.disks: dict[tuple[int, int], DictStore] = {}
        self.couriers = [Courier(self), Courier(self)]
        self.workers = Workers(self)
        self.vandal = Vandal(self)
        self._actors = self._weighted()

    def _weighted(self) -> list[Callable[[], None]]:
        weights = (
            (self._candidate, 600),
            (self._deliver, 230),
            (self._client, 110),
            (self._courier, 42),
            (self._write_down, 4),
            (self._assign, 12),
            (self._sleep, 3),
            (self._crash, 4),
            (self.workers.step, 1),
            (self.vandal.step, 2),
        )
        return [actor for actor, weight in weights for _ in range(weight)]

    def lacks(self, rule: str) -> bool:
        """Tell whether a rule is left out of this world."""
        return rule in self.without

    def new_id(self) -> str:
        self._ids += 1
        return f"id-{self._ids}"

    # --- time ----------------------------------------------------------------------------------

    def run(self, steps: int = STEPS) -> None:
        """Take steps, then let everything come to rest; raises Fault."""
        rng, actors = self.rng, self._actors
        for _ in range(steps):
            self.now_ns += rng.randrange(1_000_000)
            actors[int(rng.random() * len(actors))]()
        self._rest()

    def _rest(self) -> None:
        """Without further mishaps every command is answered, and every transfer ends."""
        self.is_calm = True
        self.asleep.clear()
        for partition in range(len(self.logs)):
            self._give(partition, certain=True)
        for _ in range(_REST_ROUNDS):
            self.now_ns += 1_000_000
            for process in self.processes:
                for candidate in process:
                    candidate.step()
            self._deliver_all()
            self.vandal.repair()
            self.couriers[0].step()
            self._client()
            if self._is_at_rest():
                self.workers.finish()
                return
        raise Fault(f"it does not come to rest: unanswered {list(self.unanswered)[:5]}")

    def _is_at_rest(self) -> bool:
        return (
            not self.unanswered
            and self.couriers[0].is_done
            and all(self._is_idle(one) for process in self.processes for one in process)
        )

    def _is_idle(self, candidate: Candidate) -> bool:
        if candidate.follower.next_offset < len(self.logs[candidate.partition]):
            return False
        if candidate.flight or candidate.lane.in_flight:
            return False
        done = candidate.owned.done_offset == len(self.commands[candidate.partition])
        return not candidate.is_assigned or done

    # --- processes -----------------------------------------------------------------------------

    def _pick(self) -> Candidate | None:
        number = int(self.rng.random() * len(self.processes))
        if self.asleep.get(number, 0) > self.now_ns:
            return None
        return self.rng.choice(self.processes[number])

    def _candidate(self) -> None:
        if (candidate := self._pick()) is not None:
            candidate.step()

    def _courier(self) -> None:
        number = self.rng.randrange(len(self.couriers))
        if self.rng.random() < 0.01:
            self.couriers[number] = Courier(self)
        self.couriers[number].step()

    def _write_down(self) -> None:
        if (candidate := self._pick()) is not None:
            self.disks[candidate.process, candidate.partition] = candidate.disk()

    def _assign(self) -> None:
        """Hand a partition over: either may learn of it first, or be told much later."""
        self._give(self.rng.randrange(len(self.logs)), certain=False)

    def _give(self, partition: int, *, certain: bool) -> None:
        """Give a partition to a member of the group, perhaps to the same one again."""
        self.generations[partition] += 1
        self.members[partition] = self.rng.randrange(len(self.processes))
        for number, process in enumerate(self.processes):
            if certain or self.rng.random() < 0.7:
                process[partition].learn(
                    is_assigned=number == self.members[partition],
                    generation=self.generations[partition],
                )

    def commit(self, candidate: Candidate, offset: int) -> bool:
        """Note an offset for the group, if it is still the candidate's to tell."""
        if self.is_member(candidate):
            self.committed[candidate.partition] = offset
            return True
        return False

    def is_member(self, candidate: Candidate) -> bool:
        """Tell whether the group, as it is now, has given its partition to a candidate."""
        here = self.members[candidate.partition], self.generations[candidate.partition]
        return here == (candidate.process, candidate.generation)

    def _sleep(self) -> None:
        number = self.rng.randrange(len(self.processes))
        self.asleep[number] = self.now_ns + self.rng.randrange(200_000_000)

    def _crash(self) -> None:
        """End a process; what it has sent is under way all the same. Its disk may be lost."""
        number = self.rng.randrange(len(self.processes))
        fallen = self.processes[number]
        for candidate in fallen:
            self._orphan(candidate.partition, candidate.flight)
            if self.rng.random() < 0.3:
                self.disks.pop((number, candidate.partition), None)
        self.processes[number] = [
            Candidate(self, number, partition, self.disks.get((number, partition)))
            for partition in range(len(self.logs))
        ]

    # --- the log -------------------------------------------------------------------------------

    def _create(self, partition: int) -> None:
        created = LogCreated(
            log_id=LOG_ID, topic="events", partition=partition, partitions=len(self.logs)
        )
        now = from_ns(self.now_ns)
        first = Envelope(
            id=self.new_id(),
            type="LogCreated",
            event_time=now,
            recorded_time=now,
            data=codec.encode_event(created),
        )
        self.land(partition, [Draft(None, codec.encode(first))])

    def land(self, partition: int, drafts: list[Draft]) -> None:
        """Put records at the end of a partition."""
        log = self.logs[partition]
        for draft in drafts:
            log.append(Record("events", partition, len(log), draft.key, draft.value))

    def fetch(self, partition: int, offset: int) -> list[Record]:
        """Return the next few records, or once in a while those after them."""
        log = self.logs[partition]
        skipped = 0 if self.is_calm or self.rng.random() > 0.002 else 1
        return log[offset + skipped : offset + skipped + self.rng.randrange(1, 5)]

    def record(self, partition: int, offset: int) -> Record:
        """Return a record that somebody knows of; raises Fault where there is none."""
        log = self.logs[partition]
        if offset >= len(log):
            raise Fault(f"an answer tells of {partition}:{offset}, and the log ends before")
        return log[offset]

    def expect_halt(self, partition: int, halt: Halt) -> None:
        """Raise Fault for a record that halts though nobody damaged it."""
        if halt.offset not in self.vandal.damaged[partition]:
            raise Fault(f"an owner halted at {partition}:{halt.offset}: {halt.reason}")

    def passed(self, partition: int, start: int, end: int) -> None:
        """Raise Fault where a damaged record was passed that nobody parked."""
        for offset in self.vandal.damaged[partition]:
            if start <= offset < end and offset not in self.vandal.parked[partition]:
                raise Fault(f"{partition}:{offset} is damaged, and was passed unparked")

    def _deliver(self) -> None:
        """Let the first append of somebody's land, or go wrong."""
        rng = self.rng
        if rng.random() < 0.15:
            if self.orphans and rng.random() < 0.2:
                self._deliver_late(int(rng.random() * len(self.orphans)))
            return
        process = self.processes[int(rng.random() * len(self.processes))]
        sender = process[int(rng.random() * len(process))]
        if not sender.flight:
            return
        drafts = sender.flight.pop(0)
        fate = rng.random()
        late: list[list[Draft]] = []
        if fate < 0.02:
            pass
        elif fate < 0.04 or (drafts[0].key is None and rng.random() < 0.3):
            late = [drafts]
        else:
            self.land(sender.partition, drafts)
        if 0.06 <= fate < 0.08:
            self.land(sender.partition, drafts)
        if fate < 0.06:
            # Lost, or late, or there and the answer lost: to its sender all the same.
            late += sender.flight
            sender.flight = []
            sender.unknown()
        self._orphan(sender.partition, late)

    def _orphan(self, partition: int, late: list[list[Draft]]) -> None:
        """Let appends of one sender land some time, in the order in which they were sent."""
        if late:
            self.orphans.append((partition, late))

    def _deliver_late(self, which: int) -> None:
        partition, late = self.orphans[which]
        self.land(partition, late.pop(0))
        if not late:
            del self.orphans[which]

    def _deliver_all(self) -> None:
        while self.orphans:
            self._deliver_late(0)
        for process in self.processes:
            for candidate in process:
                for drafts in candidate.flight:
                    self.land(candidate.partition, drafts)
                candidate.flight = []

    # --- commands and answers ------------------------------------------------------------------

    def _client(self) -> None:
        rng = self.rng
        if self.is_calm:
            if self.unanswered:
                self._send(rng.choice(list(self.unanswered.values())))
            return
        chance = rng.random()
        if chance < 0.5 or not self.asked:
            self.ask(self.load.new())
        elif chance < 0.75 and self.unanswered:
            self._send(rng.choice(list(self.unanswered.values())))
        else:
            first = rng.choice(list(rng.choice(list(self.asked.values())).values()))
            is_own = first.command_id.startswith("c")
            self.ask(self.load.other(first) if is_own and rng.random() < 0.2 else first)

    def ask(self, request: Request) -> None:
        """Put a command into the topic of its partition, perhaps once more."""
        content_hash = command_hash(request)
        named = (request.key, request.command_id)
        self.asked.setdefault(named, {}).setdefault(content_hash, request)
        self.unanswered[*named, content_hash] = request
        self._send(request)

    def _send(self, request: Request) -> None:
        if self.is_calm or self.rng.random() < 0.95:
            self.commands[partition_of(request.key, len(self.logs))].append(request)

    def note_decided(self, partition: int, flight: Flight) -> None:
        """Remember which delivery of a command each proposed record is of."""
        for one, answer in zip(flight.waiting, flight.batch.answers, strict=True):
            if answer.offset is not None and answer.offset >= flight.base:
                value = flight.drafts[answer.offset - flight.base].value
                self.deliveries.setdefault((partition, value), one.offset)

    def reply(self, partition: int, offset: int, answer: Answer) -> None:
        """Answer whoever asked: that counts as told, even if it is lost on the way."""
        request = self.commands[partition][offset]
        content_hash = command_hash(request)
        named = (request.key, request.command_id)
        self.answers.setdefault(named, []).append((content_hash, answer))
        if answer.status == "lacking":
            self.turned_down[partition, offset] = answer
        if self.is_calm or self.rng.random() < 0.9:
            self.told[*named, content_hash] = answer
            self.unanswered.pop((*named, content_hash), None)
