"""What every process here shares or starts with: the rules, the reference log, an index."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from domain import decider
from domain.entities import Entity
from domain.events import InstrumentDefined, LogCreated
from schemas import codec
from schemas.envelope import Envelope, Record
from schemas.partitioning import partition_of
from streams.deciding.following import Follower
from streams.memory import EntityRef
from tests.streams.dict_store import DictStore
from tests.streams.requests import NOON
from tests.streams.simulation.load import INSTRUMENT

LOG_ID: Final = "L"
_WINDOW: Final = 5
"""How many ids a decider remembers that remembers too few."""


class KeyView:
    """A stream's entities as a mapping has them; instruments as the reference log defines them."""

    def __init__(
        self, entities: dict[EntityRef, Entity], key: str, reference: Sequence[Follower]
    ) -> None:
        self._entities, self._key, self._reference = entities, key, reference

    def get(self, kind: str, entity_id: str) -> Entity | None:
        if kind == "instrument":
            follower = self._reference[partition_of(entity_id, len(self._reference))]
            return follower.index.entity((entity_id, "instrument", ""))
        return self._entities.get((self._key, kind, entity_id))


class Forgetful(DictStore):
    """An index that remembers the ids of the last few commands alone."""

    def write(self, puts: Mapping[bytes, bytes]) -> None:
        """Put values, and forget."""
        super().write(puts)
        ids = [key for key in self._kept if key[3:4] == b"c"]
        for key in ids[:-_WINDOW]:
            del self._kept[key]


def copied(store: DictStore) -> DictStore:
    """Return an index as a disk would keep it."""
    made = type(store)()
    made._kept.update(store._kept)
    return made


@cache
def reference(partitions: int) -> list[Follower]:
    """Return readers of a reference log that defines one instrument and never changes."""
    return [_read_reference(partition, partitions) for partition in range(partitions)]


def _read_reference(partition: int, partitions: int) -> Follower:
    place = "reference", partition
    created = LogCreated(
        log_id=LOG_ID, topic="reference", partition=partition, partitions=partitions
    )
    envelopes = [_envelope(created)]
    if partition_of(INSTRUMENT, partitions) == partition:
        envelopes.append(_envelope(InstrumentDefined(), key=INSTRUMENT, seq=1, command_id="define"))
    follower = Follower(place, LOG_ID, partitions, DictStore(), decider.evolve, "")  # type: ignore[arg-type]
    taken = follower.take(
        [
            Record("reference", partition, offset, told.stream, codec.encode(told))
            for offset, told in enumerate(envelopes)
        ]
    )
    assert taken.halt is None
    return follower


def _envelope(event: LogCreated | InstrumentDefined, **told: object) -> Envelope:
    fields = {"event_time": NOON, "recorded_time": NOON, "data": codec.encode_event(event)} | told
    return Envelope(id="r", type=codec.event_type(event), **fields)  # type: ignore[arg-type]
