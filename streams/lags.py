"""How far projections are behind the log, by their checkpoints."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from domain.commands import Topic
from projections.rows import Projection
from streams.read_models import Checkpoint


class Lag(Struct, frozen=True):
    """Where a projection stands in a partition; `lag` counts the records that it has not read."""

    name: str
    topic: str
    partition: int
    checkpoint: int
    lag: int
    halted: str | None


def lags_of(
    projections: Iterable[Projection],
    checkpoints: Mapping[tuple[str, int], Checkpoint],
    heads: Mapping[Topic, Sequence[int]],
) -> list[Lag]:
    """Return where projections stand in every partition of the topics in `heads`.

    `heads` has, by topic, where its partitions ended a moment ago: who is past that is not behind.
    """
    known = list(projections)
    lags = []
    for topic, ends in heads.items():
        of_topic = [one.name for one in known if one.topic == topic]
        for partition, head in enumerate(ends):
            for name in of_topic:
                found = checkpoints.get((name, partition))
                at = found.next_offset if found else 0
                halted = found.halted if found else None
                lags.append(Lag(name, topic, partition, at - 1, max(0, head - at), halted))
    return lags
