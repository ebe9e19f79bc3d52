"""A lane over a log that is a list: what lands elsewhere, late, or under another's term."""

import itertools
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain import commands, decider
from domain.commands import Request
from domain.events import LogCreated, TermStarted
from domain.times import from_ns
from schemas import codec
from schemas.envelope import Envelope, Record
from streams.answers import Answer
from streams.batch import Rules
from streams.deciding.following import Follower
from streams.deciding.lane import Flight, Lane, Waiting
from streams.deciding.wire import Route
from streams.log import Draft
from tests.streams.dict_store import DictStore
from tests.streams.sample_book import at

PLACE = ("events", 0)


class Desk:
    """A lane, its log, and what was answered."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        ids = (f"id-{n}" for n in itertools.count())
        times = itertools.count(1_700_000_000_000_000_000, 1000)
        self.rules = Rules(
            decide=decider.decide,
            evolve=decider.evolve,
            clock=lambda: next(times),
            new_id=lambda: next(ids),
            code="test",
        )
        created = LogCreated(log_id="L", topic="events", partition=0, partitions=1)
        self.append([self.control(created)])
        self.store = DictStore()
        self.lane = self.make_lane("me")
        self.offsets = itertools.count()
        self.take_term()

    def make_lane(self, name: str) -> Lane:
        reference = Follower(("reference", 0), "L", 1, DictStore(), decider.evolve, name)
        follower = Follower(("events", 0), "L", 1, self.store, decider.evolve, name)
        return Lane(follower, [reference], self.rules)

    def control(self, event: LogCreated | TermStarted, term: int = 0) -> Draft:
        now = from_ns(1_699_999_999_000_000_000)
        envelope = Envelope(
            id=self.rules.new_id(),
            type=codec.event_type(event),
            term=term,
            event_time=now,
            recorded_time=now,
            data=codec.encode_event(event),
        )
        return Draft(None, codec.encode(envelope))

    def append(self, drafts: list[Draft]) -> None:
        for one in drafts:
            self.records.append(Record(*PLACE, len(self.records), one.key, one.value))

    def take_term(self) -> None:
        self.read()
        self.append([self.lane.claim()])
        self.read()
        assert self.lane.owns

    def read(self) -> list[Answer]:
        """Read to the head; return the answers to what has landed by that."""
        follower = self.lane.follower
        taken = follower.take(self.records[follower.next_offset :])
        assert taken.halt is None
        return [one for flight in self.lane.learn(taken.observed) for one in self.answers(flight)]

    def answers(self, flight: Flight) -> list[Answer]:
        known = {offset: self.records[offset] for offset in flight.known_offsets}
        return self.lane.answers(flight, known)

    def decide(self, *requests: Request) -> Flight:
        waiting = [Waiting(next(self.offsets), one, Route(), 100, 0) for one in requests]
        return self.decide_waiting(waiting)

    def decide_waiting(self, waiting: list[Waiting]) -> Flight:
        self.lane.prepare(waiting)
        before = self.lane.asked_before(waiting)
        first = {ref: self.records[offset] for ref, offset in before.items()}
        return self.lane.decide(waiting, first)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def opening() -> Request:
    command = commands.OpenAccount(base_currency="USD")
    return Request(command_id="open", key="A", event_time=at(0), command=command)


def cash(name: str) -> Request:
    command = commands.MoveCash(cash_id=name, kind="deposit", amount=Decimal(1), currency="USD")
    return Request(command_id=f"c-{name}", key="A", event_time=at(1), command=command)


def told(answers: list[Answer]) -> list[tuple[str, int | None, bool]]:
    return [(one.status, one.offset, one.replayed) for one in answers]


def test_a_flight_sees_what_the_one_before_it_has_decided(desk: Desk) -> None:
    first = desk.decide(opening())
    second = desk.decide(cash("k"), replace(cash("k"), command_id="again"))
    assert desk.lane.landed() == []
    desk.append(first.drafts)
    assert told(desk.read()) == [("accepted", 2, False)]
    desk.append(second.drafts)
    assert told(desk.read()) == [("accepted", 3, False), ("duplicate", 3, False)]


def test_what_decides_nothing_waits_for_what_is_before_it(desk: Desk) -> None:
    first = desk.decide(opening(), cash("k"))
    second = desk.decide(replace(cash("k"), command_id="again"))
    assert second.drafts == []
    assert desk.lane.landed() == []
    desk.append(first.drafts)
    assert told(desk.read())[2:] == [("duplicate", 3, False)]


def test_what_a_record_of_another_has_moved_is_looked_up_under_a_new_term(desk: Desk) -> None:
    flights = [desk.decide(opening(), cash("k")), desk.decide(cash("l"), cash("l"))]
    repeated = desk.decide(replace(cash("k"), command_id="again"))
    void = desk.control(TermStarted(owner="late"), term=1)
    desk.append([void, *flights[0].drafts, *flights[1].drafts])
    assert desk.read() == []
    assert not repeated.has_landed or repeated not in desk.lane.in_flight
    desk.take_term()
    waiting = list(desk.lane.queue)
    desk.lane.queue.clear()
    assert desk.decide_waiting(waiting).drafts == []
    (landed,) = desk.lane.landed()
    answers = desk.answers(landed)
    assert told(answers) == [
        ("accepted", 3, False),
        ("accepted", 4, False),
        ("accepted", 5, False),
        ("accepted", 5, False),
        ("duplicate", 4, False),
    ]
    for answer in answers:
        assert answer.offset is not None
        assert desk.records[answer.offset].value == answer.event


def test_a_term_that_was_lost_is_decided_again(desk: Desk) -> None:
    flight = desk.decide(opening(), cash("k"))
    desk.append([desk.control(TermStarted(owner="other"), term=2), *flight.drafts])
    assert desk.read() == []
    assert not desk.lane.owns
    assert [one.tried for one in desk.lane.queue] == [True, True]
    desk.lane.stand_again()
    desk.take_term()
    waiting = list(desk.lane.queue)
    desk.lane.queue.clear()
    again = desk.decide_waiting(waiting)
    desk.append(again.drafts)
    assert told(desk.read()) == [("accepted", 6, False), ("accepted", 7, False)]
    assert desk.lane.follower.voids == 2


def test_what_landed_unknown_is_answered_as_the_first_time(desk: Desk) -> None:
    flight = desk.decide(opening(), cash("k"))
    desk.append(flight.drafts)
    desk.lane.lose_track()
    desk.take_term()
    waiting = list(desk.lane.queue)
    desk.lane.queue.clear()
    again = desk.decide_waiting(waiting)
    assert again.drafts == []
    (landed,) = desk.lane.landed()
    assert told(desk.answers(landed)) == [("accepted", 2, False), ("accepted", 3, False)]


def test_an_index_goes_on_where_it_stood(desk: Desk) -> None:
    flight = desk.decide(opening(), cash("k"))
    desk.append(flight.drafts)
    desk.read()
    desk.lane = desk.make_lane("next")
    assert desk.lane.follower.next_offset == len(desk.records)
    desk.take_term()
    again = desk.decide(cash("k"))
    (landed,) = desk.lane.landed()
    assert landed is again
    assert told(desk.answers(landed)) == [("duplicate", 3, True)]


def test_rules_that_fail_change_nothing(desk: Desk) -> None:
    desk.append(desk.decide(opening()).drafts)
    desk.read()
    endless = cash("x")
    endless = replace(endless, command=replace(endless.command, amount=Decimal("1E+9999")))
    with pytest.raises(ValueError, match="finite"):
        desk.decide(cash("k"), endless)
    assert not desk.lane.in_flight
    flight = desk.decide(cash("k"))
    desk.append(flight.drafts)
    assert told(desk.read()) == [("accepted", 3, False)]


def test_an_owner_keeps_the_index_that_every_reader_makes_of_its_records(desk: Desk) -> None:
    flights = [desk.decide(opening(), cash("k"), cash("k")), desk.decide(cash("l"), opening())]
    desk.append([draft for flight in flights for draft in flight.drafts])
    desk.read()
    assert not desk.lane.follower.ownership.made
    kept, desk.store = desk.store, DictStore()
    reader = desk.make_lane("reader").follower
    assert reader.take(desk.records).halt is None
    assert list(desk.store.scan(b"")) == list(kept.scan(b""))


@pytest.mark.parametrize("damage", ["value", "key"])
def test_what_is_not_what_was_proposed_halts_its_owner_as_every_reader(
    desk: Desk, damage: str
) -> None:
    (draft,) = desk.decide(opening()).drafts
    if damage == "value":
        desk.append([replace(draft, value=draft.value.replace(b'"USD"', b'"USD","new":1'))])
    else:
        desk.append([replace(draft, key="B")])
    taken = desk.lane.follower.take(desk.records[-1:])
    other = Follower(PLACE, "L", 1, DictStore(), decider.evolve, "other")
    told = other.take(desk.records)
    assert taken.halt is not None
    assert told.halt is not None
    assert (taken.halt.offset, taken.halt.reason) == (told.halt.offset, told.halt.reason)
