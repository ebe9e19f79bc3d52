"""The log read one batch ahead of the folds, so that the database finds records while they fold."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from domain.commands import Topic
from schemas.envelope import Record
from streams.log import Log
from streams.postgres_log import PostgresLog

_TURN_S: Final = 0.0005
"""How long a thread may keep Python's lock: a thread that the database has answered waits for it,
and the database for that thread. Python's own 5 ms are as long as an answer takes."""

_Asked = tuple[Topic, int, int, int]


class ReadAhead:
    """A log for one thread that reads on and on: what comes next is read by a second thread."""

    def __init__(self, log: Log, thread: ThreadPoolExecutor) -> None:
        self._source = log
        self._thread = thread
        self._ahead: tuple[_Asked, Future[Sequence[Record]]] | None = None
        self.log_id = log.log_id
        self.partitions = log.partitions

    def read(self, topic: Topic, partition: int, from_offset: int, limit: int) -> Sequence[Record]:
        """Return up to `limit` records from an offset on, in order; none at the head."""
        asked = (topic, partition, from_offset, limit)
        ahead, self._ahead = self._ahead, None
        at_hand = ahead is not None and ahead[0] == asked
        records = ahead[1].result() if ahead and at_hand else self._source.read(*asked)
        if len(records) == limit:
            following = (topic, partition, from_offset + limit, limit)
            self._ahead = following, self._thread.submit(self._source.read, *following)
        return records

    def heads(self, topic: Topic) -> list[int]:
        """Return, by partition, the offset that the next record will get."""
        return self._source.heads(topic)


@contextlib.contextmanager
def reading_ahead(log: Log) -> Iterator[Log | ReadAhead]:
    """Give a log that reads ahead for a block: Postgres', as Kafka's does so by itself."""
    if not isinstance(log, PostgresLog):
        yield log
        return
    with ThreadPoolExecutor(1, "read-ahead") as thread:
        yield ReadAhead(log, thread)


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Let the threads of a block take turns often."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(min(_TURN_S, interval_s))
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
