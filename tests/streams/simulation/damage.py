"""Records that nobody should have written, and the people who set them aside."""

from typing import TYPE_CHECKING

from msgspec import Raw
from msgspec.structs import replace

from domain.events import Event, LogCreated, RecordParked
from domain.times import from_ns
from schemas import codec, validity
from schemas.codec import record_hash
from schemas.envelope import GENESIS_HASH, Envelope, Record
from schemas.partitioning import partition_of
from schemas.validity import Halt, PartitionState, Void
from streams.log import Draft

if TYPE_CHECKING:
    from tests.streams.simulation.world import World


class Vandal:
    """Writes what halts every reader, writes what must not matter, and parks what halts."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.damaged: list[dict[int, str]] = [{} for _ in world.logs]
        self.parked: list[set[int]] = [set() for _ in world.logs]

    def step(self) -> None:
        """Damage a partition, at most one record of it at a time, or repair what is damaged."""
        rng = self.world.rng
        partition = rng.randrange(len(self.world.logs))
        if len(self.parked[partition]) < len(self.damaged[partition]):
            if rng.random() < 0.6:
                self.repair()
            else:
                self._mislead(partition)
        elif rng.random() < 0.4:
            self._damage(partition)
        else:
            self._mislead(partition)

    def repair(self) -> None:
        """Park what halts, as a person does: they know the record, and no term."""
        for partition, damaged in enumerate(self.damaged):
            for offset in damaged.keys() - self.parked[partition]:
                digest = record_hash(self.world.logs[partition][offset].value)
                self._control(partition, RecordParked(offset=offset, digest=digest))
                self.parked[partition].add(offset)

    def _mislead(self, partition: int) -> None:
        """Write a control record that must change nothing."""
        log, rng = self.world.logs[partition], self.world.rng
        offset = rng.randrange(len(log))
        digest = record_hash(log[offset].value)
        kind = rng.randrange(3)
        if kind == 0:
            partitions = len(self.world.logs)
            self._control(
                partition,
                LogCreated(
                    log_id="other", topic="events", partition=partition, partitions=partitions
                ),
            )
        elif kind == 1 and offset not in self.damaged[partition]:
            self._control(partition, RecordParked(offset=offset, digest=digest))
        else:
            waiting = self.damaged[partition].keys() - self.parked[partition]
            for halted in waiting:
                self._control(partition, RecordParked(offset=halted, digest=digest[::-1]))

    def _control(self, partition: int, event: Event) -> None:
        now = from_ns(self.world.now_ns)
        told = Envelope(
            id=self.world.new_id(),
            type=codec.event_type(event),
            event_time=now,
            recorded_time=now,
            actor="a person",
            data=codec.encode_event(event),
        )
        self.world.land(partition, [Draft(None, codec.encode(told))])

    def _damage(self, partition: int) -> None:
        """Write a record that halts here: it says what would count, but for one thing."""
        state = self._read_on(partition)
        if state is None or not state.heads:
            return
        rng = self.world.rng
        stream = rng.choice(list(state.heads))
        draft = self._forged(
            state, stream, rng.choice(("garbage", "chain", "type", "key", "stream"))
        )
        try:
            record = Record("events", partition, state.next_offset, draft.key, draft.value)
            outcome = validity.judge(state, record)
        except Halt as halt:
            self.damaged[partition][halt.offset] = halt.reason
        else:
            if not self.world.without and not isinstance(outcome, Void):
                raise AssertionError(f"forged, and it counts: {draft}")
            self.damaged[partition][state.next_offset] = "forged"
        self.world.land(partition, [draft])

    def _forged(self, state: PartitionState, stream: str, fault: str) -> Draft:
        seq, digest = state.heads[stream]
        last = next(
            record
            for record in reversed(self.world.logs[state.partition])
            if record_hash(record.value) == digest
        )
        told = replace(
            codec.envelope(last.value),
            id=self.world.new_id(),
            command_id=f"forged-{self.world.new_id()}",
            term=state.term,
            seq=seq + 1,
            prev_hash=digest,
        )
        match fault:
            case "garbage":
                return Draft(stream, b'{"id": 1')
            case "chain":
                return Draft(stream, codec.encode(replace(told, prev_hash=digest[::-1])))
            case "type":
                return Draft(stream, codec.encode(replace(told, data=Raw(b'{"no": "event"}'))))
            case "key":
                return Draft("somebody else", codec.encode(told))
            case _:
                others = (f"B{number}" for number in range(1000))
                away = next((name for name in others if not _belongs(name, state)), None)
                if away is None:
                    return Draft(stream, b"")
                first = replace(told, account=away, seq=1, prev_hash=GENESIS_HASH)
                return Draft(away, codec.encode(first))

    def _read_on(self, partition: int) -> PartitionState | None:
        """Return a reader's state at the head; None where it does not get there."""
        log = self.world.logs[partition]
        state = PartitionState(topic="events", partition=partition)
        state.parked = validity.look_ahead(log)
        try:
            for record in log:
                validity.admit(state, record)
        except Halt:
            return None
        return state


def _belongs(stream: str, state: PartitionState) -> bool:
    return partition_of(stream, state.partitions) == state.partition
