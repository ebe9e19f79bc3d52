"""Channels and connections without a server: what is shared, conflated, read for, and given up."""

import time
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.feed import channel as channels
from api.http.feed import connection as connections
from api.http.feed.channel import Channel, Update
from api.http.feed.connection import Connection, Subscription
from api.http.feed.frames import Frame, Subscribe, Unsubscribe
from api.http.feed.metrics import Counts
from api.http.feed.reading import Ask, ChangedRow, Piece
from api.http.feed.tokens import is_behind, offsets_of, position_of, stamp_of
from api.http.security import LOCAL

STAMP = "00"


class Table:
    """Rows of one partition, as a database would have them: by key, the offset of the change."""

    def __init__(self, width: int = 0) -> None:
        self.rows: dict[int, int] = {}
        self.next_offset = 1
        self._blanks = b" " * width

    def change(self, key: int) -> None:
        self.rows[key] = self.next_offset
        self.next_offset += 1

    def skip(self) -> None:
        """Go past a record that changes no row here."""
        self.next_offset += 1

    def piece(self, ask: Ask) -> Piece | None:
        known = None if ask.position is None else offsets_of(ask.position, STAMP)
        if ask.is_live and known == {0: self.next_offset}:
            return None
        since = 0 if known is None else known[0]
        rows = [
            ChangedRow((key,), 0, offset, b"[%d,%d%b]" % (key, offset, self._blanks))
            for key, offset in sorted(self.rows.items(), key=lambda item: item[1])
            if offset >= since
        ]
        reached = {0: self.next_offset}
        previous = None if known is None else ask.position
        return Piece(STAMP, previous, position_of(STAMP, reached), reached, rows, is_whole=True)


class Hub:
    """Channels over a table; reads are answered when the test says so."""

    def __init__(self, width: int = 0) -> None:
        self.table = Table(width)
        self.counts = Counts()
        self.channel = Channel("deals", "A1")
        self.asked: list[tuple[Subscription, Ask]] = []
        self.reads = 0
        self.update: Update | None = None

    def join(self, subscription: Subscription, topic: str, account: str | None) -> Channel:
        self.channel.subscribers[subscription] = None
        return self.channel

    def leave(self, subscription: Subscription) -> None:
        del self.channel.subscribers[subscription]

    def read(self, subscription: Subscription, ask: Ask) -> None:
        self.asked.append((subscription, ask))

    def answer(self) -> None:
        pieces: dict[Ask, Piece] = {}
        while self.asked:
            subscription, ask = self.asked.pop(0)
            piece = pieces.get(ask) or self.table.piece(ask)
            assert piece is not None
            pieces[ask] = piece
            self.reads += 1
            self.channel.begin(piece)
            subscription.take(piece)

    def look(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Tell the subscribers what is new; other things happen between two of them."""
        ask = self.channel.live_ask()
        piece = None if ask is None else self.table.piece(ask)
        if piece is not None:
            subscribers, self.update = self.channel.advance(piece)
            for subscriber in subscribers:
                subscriber.stir(self.update)
                meanwhile()


class Peer:
    """A client that takes a frame whenever the test lets it, and keeps the rows it was told."""

    def __init__(self, hub: Hub, position: str | None = None, told_id: int | str = 1) -> None:
        self.is_ready = True
        self.held: Frame = ()
        self.rows: dict[int, int] = {}
        self.position = position
        self.frames = 0
        self.closed: tuple[int, str] | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.connection = Connection(hub, LOCAL)
        self.connection.open(self._open)
        self.connection.subscribe(Subscribe(told_id, "deals", "A1", position))

    def _open(self, on_ready: Callable[[], None]) -> "Peer":
        self.on_ready = on_ready
        return self

    def send(self, frame: Frame) -> None:
        assert self.is_ready
        self.is_ready = False
        self.held = frame
        told = msgspec.json.decode(b"".join(frame))
        if told["op"] == "snapshot":
            self.rows.clear()
        else:
            assert told["op"] == "delta"
            assert told["previous"] == self.position
        self.position = told["position"]
        self.rows.update(map(tuple, told["rows"]))
        self.frames += 1

    def take(self) -> None:
        self.is_ready = True
        self.on_ready()

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 5)),
        st.tuples(st.sampled_from(("take", "look")), st.integers(0, 3)),
        st.tuples(st.sampled_from(("answer", "leave", "join", "elsewhere")), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, kept=st.integers(0, 4))
def test_whatever_the_order_every_client_ends_with_the_table(
    steps: list[tuple[str, int]], kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channels, "KEPT_ROWS", kept)
        hub = Hub()
        peers = [Peer(hub) for _ in range(3)]
        for step, number in steps:
            match step:
                case "change":
                    hub.table.change(number)
                case "take":
                    peers[number % len(peers)].take()
                case "elsewhere":
                    hub.table.skip()
                case "look":
                    hub.look(peers[number % len(peers)].take if number else lambda: None)
                case "answer":
                    hub.answer()
                case "join":
                    peers.append(Peer(hub, peers[0].position))
                    peers[-1].rows = dict(peers[0].rows)
                case "leave" if len(peers) > 1:
                    peers.pop().connection.end()
        hub.table.change(9)
        for _ in range(6):
            hub.answer()
            hub.look()
            for peer in peers:
                peer.take()
        for peer in peers:
            assert peer.rows == hub.table.rows


def test_many_clients_at_one_position_cost_no_read_each() -> None:
    hub = Hub()
    peers = [Peer(hub) for _ in range(50)]
    hub.answer()
    hub.reads = 0
    for number in range(10):
        at = {peer.position for peer in peers}
        hub.table.skip()
        hub.look()
        hub.table.change(number)
        hub.look()
        assert hub.update is not None
        assert {hub.update.previous} == at, "nobody has to look for himself"
        for peer in peers:
            peer.take()
    assert hub.reads == 0
    assert all(peer.frames == 11 for peer in peers)
    assert all(peer.rows == hub.table.rows for peer in peers)


def test_a_client_that_takes_nothing_holds_one_frame_and_is_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub()
    peer, other = Peer(hub), Peer(hub)
    hub.answer()
    for number in range(5000):
        hub.table.change(number % 7)
        hub.look()
        other.take()
    assert peer.frames == 1
    assert other.frames > 4000
    monkeypatch.setattr(connections, "STUCK_S", 0.0)
    peer.connection.check_stuck()
    assert peer.closed is None
    peer.connection.check_stuck()
    assert peer.closed == (4408, "nothing was read for 0 s")


def test_rows_are_in_memory_once_however_many_are_sent_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    width = 100_000
    hub = Hub(width)
    hub.table.change(0)
    peers = [Peer(hub, told_id=f"client {number}") for number in range(200)]
    tracemalloc.start()
    try:
        hub.answer()  # they hold each frame until the next one
        hub.table.change(1)
        hub.look()
        for peer in peers:
            peer.take()
        assert all(peer.rows == hub.table.rows for peer in peers)
        assert tracemalloc.get_traced_memory()[1] < 20 * width
        for peer in peers:
            peer.held = ()
        hub.update = None
        later = time.monotonic() + channels.KEPT_S + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        hub.channel.age()  # nothing is new, and nobody asks
        assert tracemalloc.get_traced_memory()[0] < width
    finally:
        tracemalloc.stop()


def test_who_asks_on_and_on_and_never_reads_is_sent_away() -> None:
    hub = Hub()
    peer = Peer(hub)
    hub.answer()  # it does not take its snapshot
    for number in range(120):
        for _ in range(connections.MOST_FAULTS - 1):
            peer.connection.unsubscribe(Unsubscribe("nothing"))
        assert peer.connection.subscribe(Subscribe(f"s{number}", "deals", "A1")) is None
        peer.connection.unsubscribe(Unsubscribe(f"s{number}"))
    assert peer.closed == (4408, "2000 answers wait to be read")
    assert hub.counts.closed == {4408: 1}


@given(
    st.dictionaries(st.integers(0, 99), st.integers(0, 2**40), min_size=1, max_size=20),
    st.text(max_size=20),
)
def test_positions_come_back_as_they_were(offsets: dict[int, int], account: str) -> None:
    stamp = stamp_of("log", "deals", 1, account)
    told = position_of(stamp, offsets)
    assert offsets_of(told, stamp) == offsets
    assert offsets_of(told, stamp_of("log", "deals", 2, account)) is None
    assert offsets_of(told, stamp_of("log", "orders", 1, account)) is None
    assert not is_behind(offsets, offsets)


@given(st.text(max_size=40))
def test_no_text_is_taken_for_a_position(text: str) -> None:
    found = offsets_of(f"{STAMP}.{text}", STAMP)
    if found is not None:
        assert {f"{place}:{offset}" for place, offset in found.items()} == set(text.split(","))
