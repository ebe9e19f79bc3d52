"""Where the records stand that do not count, for who shows records as they are in the log.

Read models count them in each checkpoint, so most partitions are known to have none. One that has
some is read from its beginning, once in a process, by the rules of every reader.
"""

import threading
from collections.abc import Container
from typing import Final
from weakref import WeakKeyDictionary

from schemas.validity import PartitionState
from streams.log import Log
from streams.reader import fresh_state, read_folded

_CHUNK: Final = 5000
_NONE: Final[frozenset[int]] = frozenset()


class _Known:
    """What has been found out of a partition of events; one thread at a time asks."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.state: PartitionState | None = None
        self.offsets: set[int] = set()
        self.count = 0
        self.lowest = 0
        """The lowest offset below which there are known to be `count`."""


_KNOWN: Final[WeakKeyDictionary[Log, dict[int, _Known]]] = WeakKeyDictionary()


def voids_between(log: Log, partition: int, since: int, end: int, count: int) -> Container[int]:
    """Return what has the offset of each event from `since` to below `end` that does not count.

    `count` is how many records below `end` do not, as the checkpoint there says. Raises LogHalted
    where the log is not any more what read models have read.
    """
    if not count:
        return _NONE
    known = _KNOWN.setdefault(log, {}).setdefault(partition, _Known())
    with known.turn:
        if count == known.count and since >= known.lowest:
            return _NONE
        if count != known.count or end < known.lowest:
            known.count, known.lowest = count, end
        return _below(known, log, partition, end)


def _below(known: _Known, log: Log, partition: int, end: int) -> Container[int]:
    state = known.state = known.state or fresh_state(log, "events", partition)
    while state.next_offset < end:
        batch = read_folded(log, "events", partition, state, _CHUNK, scans=True)
        if batch.is_empty:
            break
        known.offsets.update(void.offset for void in batch.voids)
    return known.offsets
