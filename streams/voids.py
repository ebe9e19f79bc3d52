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
    """What has been found out of a log's events; one thread at a time asks."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.read: dict[int, tuple[PartitionState, set[int]]] = {}
        self.counts: dict[int, tuple[int, int]] = {}
        """By partition a count, and the lowest offset below which there are that many."""


_KNOWN: Final[WeakKeyDictionary[Log, _Known]] = WeakKeyDictionary()


def voids_between(log: Log, partition: int, since: int, end: int, count: int) -> Container[int]:
    """Return what has the offset of each event from `since` to below `end` that does not count.

    `count` is how many records below `end` do not, as the checkpoint there says. Raises LogHalted
    where the log is not any more what read models have read.
    """
    if not count:
        return _NONE
    known = _KNOWN.setdefault(log, _Known())
    with known.turn:
        counted, lowest = known.counts.get(partition, (0, 0))
        if count == counted and since >= lowest:
            return _NONE
        if count != counted or end < lowest:
            known.counts[partition] = count, end
        return _below(known, log, partition, end)


def _below(known: _Known, log: Log, partition: int, end: int) -> Container[int]:
    if partition not in known.read:
        known.read[partition] = fresh_state(log, "events", partition), set()
    state, offsets = known.read[partition]
    while state.next_offset < end:
        batch = read_folded(log, "events", partition, state, _CHUNK, scans=True)
        if batch.is_empty:
            break
        offsets.update(void.offset for void in batch.voids)
    return offsets
