"""Two workers that project the log, one of them with a checkpoint that the other has moved."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from projections.registry import PROJECTIONS
from projections.rows import Projection, Wanted
from schemas.envelope import Record
from schemas.validity import Head
from streams.projecting import Projector
from streams.read_models import Advance, Checkpoint, CheckpointMoved
from tests.projections.row_store import RowStore

if TYPE_CHECKING:
    from tests.streams.simulation.world import World

OF_EVENTS = tuple(one for one in PROJECTIONS if one.topic == "events")


class Crash(Exception):  # noqa: N818 - a process ends
    """The worker ends here."""


class SeenLog:
    """The events of a world as a reader gets them: up to somewhere before the head."""

    log_id = "L"

    def __init__(self, world: "World") -> None:
        self._world = world
        self.partitions = len(world.logs)
        self._seen = [0] * self.partitions

    def heads(self, topic: str) -> list[int]:
        """Return heads that only ever grow."""
        if topic != "events":
            return [0] * self.partitions
        for partition, log in enumerate(self._world.logs):
            whole, seen = len(log), self._seen[partition]
            far = whole if self._world.is_calm else self._world.rng.randrange(whole + 1)
            self._seen[partition] = max(seen, far)
        return list(self._seen)

    def read(self, topic: str, partition: int, from_offset: int, limit: int) -> list[Record]:
        if topic != "events":
            return []
        end = min(from_offset + limit, self._seen[partition])
        return self._world.logs[partition][from_offset:end]


class StoredModels:
    """Read models whose rows, heads and checkpoints are written together or not at all."""

    projections: Sequence[Projection] = OF_EVENTS

    def __init__(self, world: "World") -> None:
        self.world = world
        self.rows = RowStore()
        self._checkpoints: dict[tuple[str, int], Checkpoint] = {}
        self._heads: dict[tuple[str, int], dict[str, Head]] = {}
        self._before_write: list[Projector] = []

    def checkpoints(self) -> dict[tuple[str, int], Checkpoint]:
        return dict(self._checkpoints)

    def heads(self, projection: str, partition: int) -> dict[str, Head]:
        return dict(self._heads.get((projection, partition), {}))

    @contextlib.contextmanager
    def projecting_lock(self) -> Iterator[None]:
        """Lock nobody out: workers of several processes have no such lock."""
        yield

    def fetch(self, wanted: Wanted) -> list[tuple[Any, ...]]:
        return self.rows.fetch(wanted)

    def halt(
        self, projection: str, topic: str, partition: int, next_offset: int, reason: str
    ) -> bool:
        there = Checkpoint(projection, topic, partition, 0, 0, 0, None)
        found = self._checkpoints.get((projection, partition), there)
        if found.next_offset != next_offset:
            return False
        self._checkpoints[projection, partition] = replace(found, halted=reason)
        return True

    def write(self, advances: Sequence[Advance]) -> None:
        rng, calm = self.world.rng, self.world.is_calm
        if not calm and rng.random() < 0.1:
            raise Crash
        self.world.workers.overtake()
        if not self.world.lacks("checkpoint"):
            self._check(advances)
        for advance in advances:
            self._write(advance)
        if not calm and rng.random() < 0.1:
            raise Crash

    def _check(self, advances: Sequence[Advance]) -> None:
        for advance in advances:
            found = self._checkpoints.get((advance.projection.name, advance.partition))
            if (found.next_offset if found else 0) != advance.from_offset:
                raise CheckpointMoved(f"{advance.projection.name} is elsewhere")

    def _write(self, advance: Advance) -> None:
        name, partition, state = advance.projection.name, advance.partition, advance.state
        for changed in advance.changed:
            self.rows.write(changed)
        self._heads.setdefault((name, partition), {}).update(advance.heads)
        self._checkpoints[name, partition] = Checkpoint(
            name, state.topic, partition, state.next_offset, state.term, advance.voids, None
        )


class Workers:
    """Two processes that project into one store."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.models = StoredModels(world)
        self._workers = [self._start(), self._start()]
        self._projecting = 0
        self._running = False

    def _start(self) -> Projector:
        batch = self.world.rng.randrange(1, 40)
        projector = Projector(SeenLog(self.world), self.models, batch=batch)  # type: ignore[arg-type]
        # A thread that writes behind would take the world's random numbers in an order of its own.
        projector._models.overlapping = contextlib.nullcontext
        return projector

    def step(self) -> None:
        """Let one project to where it sees the head; it may crash on the way, or be overtaken."""
        self._projecting = self.world.rng.randrange(2)
        self._project(self._projecting)

    def _project(self, which: int) -> None:
        try:
            self._workers[which].catch_up()
        except CheckpointMoved:
            pass
        except Crash:
            self._workers[which] = self._start()

    def overtake(self) -> None:
        """Let the other worker go first, just before this one writes."""
        if self._running or self.world.is_calm or self.world.rng.random() < 0.9:
            return
        self._running = True
        try:
            self._project(1 - self._projecting)
        finally:
            self._running = False

    def finish(self) -> None:
        """Project to the head."""
        self._projecting = 0
        self._workers[0].catch_up()
