"""One client's connection: its subscriptions, and which of them have something to send.

What has changed is only marked. A frame is made when the wire is ready for it, of the state of
that moment: so a slow client gets fewer frames, each with more in it, and costs no memory.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from api.http.feed.access import refusal
from api.http.feed.channel import Channel, NeedsRead, Update
from api.http.feed.frames import (
    ErrorFrame,
    Frame,
    Heartbeat,
    Problem,
    Subscribe,
    Unsubscribe,
    problem,
    write_frame,
)
from api.http.feed.metrics import Counts
from api.http.feed.reading import Ask, Piece
from api.http.feed.tokens import Offsets
from api.http.feed.wire import Wire
from api.http.problems import (
    DUPLICATE_SUBSCRIPTION,
    INTERNAL,
    TOO_MANY_SUBSCRIPTIONS,
    UNKNOWN_SUBSCRIPTION,
)
from api.http.security import Principal

MOST_SUBSCRIPTIONS: Final = 1000
MOST_FAULTS: Final = 20
"""Faulty frames after which a client is sent away."""
MOST_REPLIES: Final = 2 * MOST_SUBSCRIPTIONS
"""Answers that wait for a client to take them; one that goes on asking is cut off."""
STUCK_S: Final = 30.0
"""After so long without taking a frame a client is cut off."""
_READ_AHEAD: Final = 4
"""Reads of a connection that are under way, or not yet sent: a slow one holds no more."""

POLICY: Final = 1008
TOKEN_ENDED: Final = 4401
NOT_READING: Final = 4408
TOO_FAST: Final = 4429


class Channels(Protocol):
    """Where subscriptions are served from: the hub."""

    counts: Counts

    def join(self, subscription: "Subscription", topic: str, account: str | None) -> Channel:
        """Return the channel of a topic and account, with one more subscriber."""
        ...

    def leave(self, subscription: "Subscription") -> None:
        """Take a subscriber out."""
        ...

    def read(self, subscription: "Subscription", ask: Ask) -> None:
        """Read what a subscription misses; it is given by `take`."""
        ...


class Subscription:
    """One topic and account as one client sees it.

    `told` is the position that the client was told last, `position` how far it was served: they
    differ where nothing had changed in between.
    """

    __slots__ = (
        "account",
        "connection",
        "id",
        "is_ended",
        "is_reading",
        "offsets",
        "piece",
        "position",
        "told",
        "topic",
    )

    def __init__(self, connection: "Connection", asked: Subscribe) -> None:
        self.connection = connection
        self.id = asked.id
        self.topic = asked.topic
        self.account = asked.account
        self.told: str | None = None
        self.position: str | None = asked.from_
        self.offsets: Offsets = {}
        self.piece: Piece | None = None
        self.is_reading = False
        self.is_ended = False

    def stir(self, update: Update | None) -> None:
        """Send an update at once if it is all there is to send; else look at the channel, soon."""
        if not (self.is_ended or (update is not None and self._is_sent(update))):
            self.connection.stir(self)

    def _is_sent(self, update: Update) -> bool:
        is_next = self.told == update.previous == self.position and not self.is_reading
        return is_next and self.connection.sent(self, update)

    def take(self, piece: Piece) -> None:
        """Take what was read for this subscription."""
        if not self.is_ended:
            self.piece = piece
            self.connection.took(self)

    def fail(self) -> None:
        """End, because it cannot be read."""
        if not self.is_ended:
            self.connection.give_up(self)

    def frame_of(self, piece: Piece) -> Frame | None:
        """Return the frame of what was read; None where it is no news to the client."""
        asked_from, first = self.position, self.told is None
        self.position, self.offsets = piece.position, piece.reached
        if piece.previous is None:
            self.told = piece.position
            return piece.frame(self.id, None)
        if not piece.rows and not first:
            return None
        previous = self.told if self.told is not None else asked_from
        assert previous is not None
        self.told = piece.position
        return piece.frame(self.id, previous)

    def frame_of_update(self, update: Update) -> Frame:
        """Return the frame of changes that all subscribers share."""
        assert self.told is not None
        frame = update.rows.frame(self.id, self.told)
        self.told = self.position = update.position
        self.offsets = update.reached
        return frame


class Connection:
    """What a client asks for and is sent."""

    def __init__(self, channels: Channels, principal: Principal) -> None:
        self.principal = principal
        self.subscriptions: dict[int | str, Subscription] = {}
        self._channels = channels
        self._counts = channels.counts
        self._of: dict[Subscription, Channel] = {}
        self._wire: Wire | None = None
        self._replies: deque[Frame] = deque()
        self._dirty: dict[Subscription, None] = {}
        self._waiting: deque[Subscription] = deque()
        self._ahead: set[Subscription] = set()
        self._faults = 0
        self._stuck_since: float | None = None
        self._is_closing = False

    def open(self, open_wire: Callable[[Callable[[], None]], Wire]) -> None:
        """Begin to send."""
        self._wire = open_wire(self.pump)

    def end(self) -> None:
        """Give up all subscriptions."""
        self._wire = None
        self._waiting.clear()
        for subscription in list(self.subscriptions.values()):
            self._end(subscription)

    def close(self, code: int, reason: str) -> None:
        """Send the client away."""
        if self._wire is not None and not self._is_closing:
            self._is_closing = True
            self._counts.closed[code] += 1
            self._wire.close(code, reason)

    # --- what the client says ------------------------------------------------------------------

    def subscribe(self, asked: Subscribe) -> Problem | None:
        """Begin a subscription, or tell the client why not, and return that."""
        refused = self._refusal(asked)
        if refused is not None:
            self.fail(asked.id, refused)
            return refused
        self._faults = 0
        subscription = Subscription(self, asked)
        self.subscriptions[asked.id] = subscription
        self._of[subscription] = self._channels.join(subscription, asked.topic, asked.account)
        self._want(subscription)
        return None

    def _refusal(self, asked: Subscribe) -> Problem | None:
        if asked.id in self.subscriptions:
            return problem(DUPLICATE_SUBSCRIPTION, f"id {asked.id!r} is subscribed already")
        if len(self.subscriptions) >= MOST_SUBSCRIPTIONS:
            detail = f"{MOST_SUBSCRIPTIONS} subscriptions on one connection are the most"
            return problem(TOO_MANY_SUBSCRIPTIONS, detail)
        return refusal(self.principal, asked.topic, asked.account)

    def unsubscribe(self, asked: Unsubscribe) -> None:
        """End a subscription."""
        subscription = self.subscriptions.get(asked.id)
        if subscription is None:
            detail = f"id {asked.id!r} is not subscribed"
            self.fail(asked.id, problem(UNKNOWN_SUBSCRIPTION, detail))
            return
        self._end(subscription)

    def fail(self, told_id: int | str | None, what: Problem) -> None:
        """Tell the client what is wrong; one that goes on is sent away."""
        self._faults += 1
        if self._faults > MOST_FAULTS:
            self.close(POLICY, f"{MOST_FAULTS} faulty frames in a row, the last: {what.title}")
            return
        self.tell(told_id, what)

    def tell(self, told_id: int | str | None, what: Problem) -> None:
        """Tell the client of a problem that is no fault of its own."""
        if self._is_closing:
            return
        if len(self._replies) >= MOST_REPLIES:
            self.close(NOT_READING, f"{MOST_REPLIES} answers wait to be read")
            return
        self._replies.append(write_frame(ErrorFrame(told_id, what)))
        self.pump()

    def identify(self, principal: Principal) -> None:
        """Go on as somebody else, and end what they may not see."""
        self.principal = principal
        self.check_access()

    def check_access(self) -> None:
        """End the subscriptions that are not allowed any more."""
        for subscription in list(self.subscriptions.values()):
            refused = refusal(self.principal, subscription.topic, subscription.account)
            if refused is not None:
                self._end(subscription)
                self.tell(subscription.id, refused)

    def give_up(self, subscription: Subscription) -> None:
        """End a subscription that cannot be read."""
        self._end(subscription)
        self.tell(subscription.id, problem(INTERNAL, "it was logged; subscribe again"))

    def _end(self, subscription: Subscription) -> None:
        subscription.is_ended = True
        del self.subscriptions[subscription.id]
        del self._of[subscription]
        self._dirty.pop(subscription, None)
        self._channels.leave(subscription)
        if subscription in self._waiting:
            self._waiting.remove(subscription)
        self._ahead.discard(subscription)
        self._read_ahead()

    # --- what it is sent -----------------------------------------------------------------------

    def stir(self, subscription: Subscription) -> None:
        """Mark a subscription as changed."""
        if subscription in self._dirty:
            self._counts.conflated += 1
        self._dirty[subscription] = None
        self.pump()

    def sent(self, subscription: Subscription, update: Update) -> bool:
        """Send an update at once; tell whether it is, and not behind something else."""
        wire = self._wire
        if self._dirty or self._replies or wire is None or not wire.is_ready:
            return False
        self._stuck_since = None
        self._counts.frames += 1
        wire.send(subscription.frame_of_update(update))
        return True

    def pump(self) -> None:
        """Send what there is to send for as long as the wire is ready."""
        wire = self._wire
        if wire is None or not wire.is_ready:
            return
        self._stuck_since = None
        while (self._replies or self._dirty) and wire.is_ready:
            frame = self._replies.popleft() if self._replies else self._next_frame()
            if frame is None:
                return
            self._counts.frames += 1
            wire.send(frame)

    def _next_frame(self) -> Frame | None:
        while self._dirty:
            subscription = next(iter(self._dirty))
            del self._dirty[subscription]
            frame = self._frame(subscription)
            if frame is not None:
                return frame
        return None

    def _frame(self, subscription: Subscription) -> Frame | None:
        piece = subscription.piece
        if piece is not None:
            subscription.piece = None
            self._ahead.discard(subscription)
            frame = subscription.frame_of(piece)
            if piece.is_whole:
                self._dirty[subscription] = None
            else:
                self._want(subscription)
            self._read_ahead()
            return frame
        if subscription.is_reading or subscription.position is None:
            return None
        found = self._of[subscription].update_since(subscription.position, subscription.offsets)
        if isinstance(found, NeedsRead):
            self._want(subscription)
            return None
        return None if found is None else subscription.frame_of_update(found)

    def _want(self, subscription: Subscription) -> None:
        """Have it read for a subscription; only so much is read ahead of the client."""
        if not subscription.is_reading:
            subscription.is_reading = True
            self._waiting.append(subscription)
            self._read_ahead()

    def _read_ahead(self) -> None:
        while self._waiting and len(self._ahead) < _READ_AHEAD:
            subscription = self._waiting.popleft()
            self._ahead.add(subscription)
            ask = Ask(subscription.topic, subscription.account, subscription.position)
            self._channels.read(subscription, ask)

    def took(self, subscription: Subscription) -> None:
        """Send what was read for a subscription."""
        subscription.is_reading = False
        self.stir(subscription)

    def beat(self, position: str) -> None:
        """Say where the read models are, unless something is on its way already."""
        if self._wire is not None and self._wire.is_ready:
            self._wire.send(write_frame(Heartbeat(position)))

    def check_stuck(self) -> None:
        """Cut off a client that has taken nothing for long."""
        wire = self._wire
        if wire is None or wire.is_ready:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = time.monotonic()
        elif time.monotonic() - self._stuck_since > STUCK_S:
            self.close(NOT_READING, f"nothing was read for {STUCK_S:g} s")
