"""Answers kept in memory for as long as nothing has changed that is in them.

What was answered is kept with how far the read models were, as this process knew it, before they
were asked. It counts until they are known to be further. So it is never older than what this
process knows, which is a moment behind at most; where it has not looked for a while, nothing
counts.
"""

import time
from collections import OrderedDict
from collections.abc import Hashable
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from api.http.following import Follower
from api.marks import NO_END, marks
from api.read_models import ReadModel
from infra.postgres import Connection
from projections.prices.fold import PriceRow

MOST_BYTES: Final = 64 << 20
MOST_MARKS: Final = 65_536
LOOKED_S: Final = 1.0
"""After so long without a look at the checkpoints nothing is known of now."""


class Answer(Struct, frozen=True):
    """A page as it is sent, but for how it is packed."""

    content: bytes
    etag: str
    headers: dict[str, str]


class _Kept(Struct, frozen=True):
    state: Hashable
    answer: Answer


class HotAnswers:
    """The answers given last, each to a question about one account as it is now."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._bytes = 0
        self._marks: tuple[tuple[int, ...], dict[str, PriceRow | None]] = ((), {})

    def state(self, model: ReadModel, projection: str, partition: int) -> Hashable | None:
        """Return what changes when rows do, None where it is not known.

        Positions have marks, which change with prices; what of cash has settled changes daily.
        """
        reached = self.reached(projection, partition)
        if reached is None:
            return None
        match model.name:
            case "positions":
                return reached, self._follower.prices_reached
            case "balances":
                return reached, datetime.now(UTC).date()
            case _:
                return reached

    def reached(self, projection: str, partition: int) -> int | None:
        """Return the offset that a projection reads next, None where it is not known."""
        if time.monotonic() - self._follower.looked_at > LOOKED_S:
            return None
        return self._follower.reached.get((projection, partition))

    def find(self, question: Hashable, state: Hashable) -> Answer | None:
        """Return the answer to a question, if it was given in this state."""
        kept = self._kept.get(question)
        if kept is None or kept.state != state:
            return None
        self._kept.move_to_end(question)
        return kept.answer

    def keep(self, question: Hashable, state: Hashable, answer: Answer) -> None:
        """Keep an answer that was read after this state was told."""
        self._drop(question)
        self._kept[question] = _Kept(state, answer)
        self._bytes += len(answer.content)
        while self._bytes > MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def known_marks(self, connection: Connection, instruments: set[str]) -> dict[str, PriceRow]:
        """Return what marks instruments now, asking only for those not asked since prices moved.

        Any thread may: what is found is kept beside the state that it was asked for in.
        """
        follower = self._follower
        state, kept = self._marks
        now = follower.prices_reached
        if state != now or len(kept) > MOST_MARKS:
            kept = {}
            self._marks = now, kept
        is_known = time.monotonic() - follower.looked_at <= LOOKED_S
        missing = sorted(name for name in instruments if not is_known or name not in kept)
        if missing:
            found = marks(connection, missing, [NO_END] * len(missing))
            kept.update((name, found.get(name)) for name in missing)
        return {name: row for name in instruments if (row := kept[name]) is not None}

    def _drop(self, question: Hashable) -> None:
        kept = self._kept.pop(question, None)
        if kept is not None:
            self._bytes -= len(kept.answer.content)
