"""Channels and connections without a server: what is shared, conflated, read for, and given up."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http.feed import channel as channels
from api.http.feed import connection as connections
from api.http.feed.channel import Channel
from api.http.feed.connection import Connection, Subscription
from api.http.feed.frames import Subscribe
from api.http.feed.reading import Ask, ChangedRow, Piece
from api.http.feed.tokens import is_behind, offsets_of, position_of, stamp_of
from api.http.security import LOCAL

STAMP = "00"


class Table:
    """Rows of one partition, as a database would have them: by key, the offset of the change."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.next_offset = 1

    def change(self, key: int) -> None:
        self.rows[key] = self.next_offset
        self.next_offset += 1

    def piece(self, ask: Ask) -> Piece | None:
        known = None if ask.position is None else offsets_of(ask.position, STAMP)
        if ask.is_live and known == {0: self.next_offset}:
            return None
        since = 0 if known is None else known[0]
        rows = [
            ChangedRow((key,), 0, offset, msgspec.json.encode([key, offset]))
            for key, offset in sorted(self.rows.items(), key=lambda item: item[1])
            if offset >= since
        ]
        reached = {0: self.next_offset}
        previous = None if known is None else ask.position
        return Piece(STAMP, previous, position_of(STAMP, reached), reached, rows, is_whole=True)


class Hub:
    """Channels over a table; reads are answered when the test says so."""

    def __init__(self) -> None:
        self.table = Table()
        self.channel = Channel("deals", "A1")
        self.asked: list[tuple[Subscription, Ask]] = []
        self.reads = 0

    def join(self, subscription: Subscription, topic: str, account: str | None) -> Channel:
        self.channel.subscribers[subscription] = None
        return self.channel

    def leave(self, subscription: Subscription) -> None:
        del self.channel.subscribers[subscription]

    def read(self, subscription: Subscription, ask: Ask) -> None:
        self.asked.append((subscription, ask))

    def answer(self) -> None:
        while self.asked:
            subscription, ask = self.asked.pop(0)
            piece = self.table.piece(ask)
            assert piece is not None
            self.reads += 1
            self.channel.begin(piece)
            subscription.take(piece)

    def look(self) -> None:
        ask = self.channel.live_ask()
        piece = None if ask is None else self.table.piece(ask)
        if piece is not None:
            for subscriber in self.channel.advance(piece):
                subscriber.stir()


class Peer:
    """A client that takes a frame whenever the test lets it, and keeps the rows it was told."""

    def __init__(self, hub: Hub, position: str | None = None) -> None:
        self.is_ready = True
        self.rows: dict[int, int] = {}
        self.position = position
        self.frames = 0
        self.closed: tuple[int, str] | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.connection = Connection(hub, LOCAL)
        self.connection.open(self._open)
        self.connection.subscribe(Subscribe(1, "deals", "A1", position))

    def _open(self, on_ready: Callable[[], None]) -> "Peer":
        self.on_ready = on_ready
        return self

    def send(self, frame: bytes) -> None:
        assert self.is_ready
        self.is_ready = False
        told = msgspec.json.decode(frame)
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
        st.tuples(st.just("take"), st.integers(0, 3)),
        st.tuples(st.sampled_from(("look", "answer", "leave", "join")), st.just(0)),
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
                case "look":
                    hub.look()
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
        hub.table.change(number)
        hub.look()
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
