"""How many commands are decided and made durable together."""

from typing import Final

BATCH_NS: Final = 50_000_000
"""How long a batch should hold its locks: other writers wait for it."""
_QUICK_NS: Final = BATCH_NS * 3 // 4
FIRST_BATCH: Final = 256
SMALLEST_BATCH: Final = 128
"""On a busy machine, what each batch costs beside its commands takes most of its time."""
LARGEST_BATCH: Final = 4096


class BatchSize:
    """How many commands go into a batch, so that it holds its locks as long as it may."""

    def __init__(self) -> None:
        self._size = FIRST_BATCH

    def share(self, left: int) -> int:
        """Return how many of the commands that are left go into the next batch: no small rest."""
        batches = -(-left // self._size)
        return -(-left // batches)

    def adapt(self, done: int, elapsed_ns: int) -> None:
        """Take more commands, or fewer, into the batches to come, by how long one took."""
        if elapsed_ns > BATCH_NS:
            self._size = max(self._size * 3 // 4, SMALLEST_BATCH)
        elif 2 * done > self._size and elapsed_ns * self._size < done * _QUICK_NS:
            self._size = min(self._size * 5 // 4, LARGEST_BATCH)
