"""Records that have come by another way, read as if from the log."""

from collections.abc import Sequence

from domain.commands import Topic
from schemas.envelope import Record
from streams.log import Log


class Delivered:
    """A log of which some records of one partition are at hand; all others are read from it."""

    def __init__(self, log: Log, records: Sequence[Record]) -> None:
        self._source = log
        self._records = records
        self.log_id = log.log_id
        self.partitions = log.partitions

    def read(self, topic: Topic, partition: int, from_offset: int, limit: int) -> Sequence[Record]:
        """Return up to `limit` records from an offset on, in order; none at the head."""
        first = self._records[0]
        start = from_offset - first.offset
        is_at_hand = (topic, partition) == (first.topic, first.partition)
        if is_at_hand and 0 <= start < len(self._records):
            return self._records[start : start + limit]
        return self._source.read(topic, partition, from_offset, limit)

    def heads(self, topic: Topic) -> list[int]:
        """Return, by partition, the offset that the next record will get."""
        return self._source.heads(topic)
