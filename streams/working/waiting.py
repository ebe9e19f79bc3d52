"""Waiting for the workers: a query over Kafka answers from what they have projected by then."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from domain.commands import Topic
from streams.log import TOPICS, Log, TopicPartition
from streams.projecting import Lag, Projector
from streams.read_models import ReadModels

TIMEOUT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.1

_log = logging.getLogger(__name__)


def wait_for(
    models: ReadModels, heads: Mapping[Topic, Sequence[int]], timeout_s: float
) -> list[TopicPartition]:
    """Wait until every projection has reached the heads; return the partitions that have not.

    `heads` has, by topic and partition, the offset that the next record would have got when the
    question came: what the answer must know of lies below. A topic that it leaves out is not
    waited for. Returns at once, whatever the time, when all that is missing stands still, and
    after `timeout_s` seconds at the latest.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        behind = _behind(models, heads)
        rest_s = deadline - time.monotonic()
        if all(behind.values()) or rest_s <= 0:
            return sorted(behind)
        time.sleep(min(pause_s, rest_s))
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _behind(models: ReadModels, heads: Mapping[Topic, Sequence[int]]) -> dict[TopicPartition, bool]:
    """Return the partitions not reached yet, and whether all that is behind in them is halted."""
    checkpoints = models.checkpoints()
    behind: dict[TopicPartition, bool] = {}
    for projection in models.projections:
        for partition, head in enumerate(heads.get(projection.topic, ())):
            found = checkpoints.get((projection.name, partition))
            if head > (found.next_offset if found else 0):
                place = (projection.topic, partition)
                is_halted = found is not None and found.halted is not None
                behind[place] = behind.get(place, True) and is_halted
    return behind


class WorkersProject:
    """Stands where a projector would, in a process that leaves projecting to the workers."""

    def __init__(self, log: Log, models: ReadModels, timeout_s: float = TIMEOUT_S) -> None:
        self._source = log
        self._models = models
        self._timeout_s = timeout_s

    def catch_up(self) -> int:
        """Wait until the workers have projected what is in the log now; return 0.

        After `timeout_s` seconds it is logged which partitions answers leave something out of.
        """
        heads = {topic: self._source.heads(topic) for topic in TOPICS}
        missed = wait_for(self._models, heads, self._timeout_s)
        if missed:
            named = ", ".join(f"{topic}/{partition}" for topic, partition in missed)
            _log.warning("not all is projected yet (is `daybook worker` running?): %s", named)
        return 0

    def status(self) -> list[Lag]:
        """Return where every projection stands in every partition."""
        return Projector(self._source, self._models).status()
