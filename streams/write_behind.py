"""Read models written one batch behind the folds, so that the database works while Python does."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from projections.rows import Wanted
from schemas.validity import Head
from streams.log import LogError
from streams.read_models import Advance, Checkpoint, ReadModels, RowsRefused

P = ParamSpec("P")
T = TypeVar("T")


class RefusedBehind(LogError):  # noqa: N818 - names what happened
    """The database does not take rows of the batch before: what was folded since is void."""


class WriteBehind:
    """The read models as a projector uses them.

    Within `overlapping` a batch is written by a second thread, and everything else that is asked of
    the read models waits until it is: so nobody reads what is not committed, the connection is
    used by one thread at a time, and at most one batch is in hand.
    """

    def __init__(self, models: ReadModels) -> None:
        self._models = models
        self._thread: ThreadPoolExecutor | None = None
        self._written: Future[None] | None = None
        self.projections = models.projections

    @contextlib.contextmanager
    def overlapping(self) -> Iterator[None]:
        """Write behind for a block, at the end of which everything is written.

        What `write` would have raised is raised by whatever is asked of the read models next, or at
        the end; RowsRefused as RefusedBehind, for it is not of the batch in hand.
        """
        with ThreadPoolExecutor(1, "write-behind") as thread:
            self._thread = thread
            try:
                yield
                self._settle()
            finally:
                self._thread = self._written = None

    def write(self, advances: Sequence[Advance]) -> None:
        """Write what folds changed with their checkpoints, all or nothing, as ReadModels does."""
        self._settle()
        if self._thread is None:
            self._models.write(advances)
        else:
            self._written = self._thread.submit(self._models.write, advances)

    def checkpoints(self) -> dict[tuple[str, int], Checkpoint]:
        """Return the checkpoints there are, by projection and partition."""
        return self._settled(self._models.checkpoints)

    def heads(self, projection: str, partition: int) -> dict[str, Head]:
        """Return the heads of a partition's streams as a projection knows them."""
        return self._settled(self._models.heads, projection, partition)

    def fetch(self, wanted: Wanted) -> list[tuple[Any, ...]]:
        """Return the rows that a fold wants, as tuples of the table's columns."""
        return self._settled(self._models.fetch, wanted)

    def halt(
        self, projection: str, topic: str, partition: int, next_offset: int, reason: str
    ) -> bool:
        """Write down why a projection stands still in a partition, if that is where it stands."""
        return self._settled(self._models.halt, projection, topic, partition, next_offset, reason)

    def projecting_lock(self) -> Any:
        """Hold the lock of the one process that projects, waiting for it."""
        return self._models.projecting_lock()

    def _settled(self, ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._settle()
        return ask(*args, **kwargs)

    def _settle(self) -> None:
        written, self._written = self._written, None
        try:
            if written is not None:
                written.result()
        except RowsRefused as refused:
            raise RefusedBehind(str(refused)) from refused
