"""The rules of the log against a plain model of the same text."""

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import LogCreated
from schemas.codec import encode, record_hash
from schemas.envelope import Record
from schemas.partitioning import partition_of
from schemas.validity import Halt, PartitionState, Void, admit, look_ahead
from tests.schemas.chains import Chain, key_in, make_envelope
from tests.schemas.scenarios import EVENT, JUNK, fresh, read


@dataclass
class Model:
    """The rules once more, from the design's text, over plain JSON and a whole log at once."""

    log: list[Record]
    term: int = 0
    last: dict[str, tuple[int, str]] = field(default_factory=dict)

    def outcome(self, at: int) -> str:
        record = self.log[at]
        verdict = self.verdict(record)
        if verdict == "H" and at > 0:
            for later in self.log[at + 1 :]:
                told = self.parsed(later)
                data = told and told["type"] == "RecordParked" and told["data"]
                if data == {"offset": at, "digest": record_hash(record.value)}:
                    return "v"
        return verdict

    def parsed(self, record: Record) -> Any:
        try:
            return json.loads(record.value)
        except ValueError:
            return None

    def verdict(self, record: Record) -> str:
        told = self.parsed(record)
        if told is None or told.get("account") != record.key:
            return "H"
        kind, account = told["type"], told.get("account")
        if kind == "LogCreated":
            return "R" if record.offset == 0 else "v"
        if kind == "TermStarted":
            if told.get("term", 0) <= self.term:
                return "v"
            self.term = told["term"]
            return "R"
        if kind == "RecordParked":
            return "R" if 0 < told["data"]["offset"] < record.offset else "v"
        if partition_of(account, 2) != 0:
            return "H"
        seq, last = self.last.get(account, (0, "0" * 64))
        if told.get("term", 0) != self.term or told.get("seq", 0) != seq + 1:
            return "v"
        if told.get("prev_hash", "0" * 64) != last:
            return "H"
        self.last[account] = (seq + 1, record_hash(record.value))
        return "R"

    def letters(self) -> str:
        letters = ""
        for at in range(len(self.log)):
            letters += self.outcome(at)
            if letters[-1] == "H":
                break
        return letters


KEYS = [key_in(0, 2, prefix) for prefix in "ABC"]
STEPS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(KEYS)),
    st.tuples(st.just("append"), st.sampled_from(KEYS)),
    st.tuples(st.just("term"), st.integers(0, 4)),
    st.tuples(
        st.just("other_term"), st.tuples(st.sampled_from(KEYS), st.sampled_from([-2, -1, 1]))
    ),
    st.tuples(st.just("again"), st.integers(0, 30)),
    st.tuples(st.just("seq"), st.integers(0, 4)),
    st.tuples(st.just("broken"), st.sampled_from(KEYS)),
    st.tuples(st.just("foreign"), st.just(key_in(1, 2))),
    st.tuples(st.just("rekeyed"), st.sampled_from(KEYS)),
    st.tuples(st.just("junk"), st.sampled_from([*KEYS, None])),
    st.tuples(st.just("park"), st.integers(0, 30)),
    st.tuples(st.just("park_wrongly"), st.integers(0, 30)),
    st.tuples(st.just("create"), st.just(None)),
)


def build_log(steps: list[tuple[str, Any]]) -> list[Record]:
    chain = Chain(partitions=2)
    for step, told in steps:
        if step == "append":
            chain.append(told, EVENT)
            continue
        heads = dict(chain.heads)
        if isinstance(told, int) and step in ("again", "park", "park_wrongly"):
            repeat(chain, step, chain.records[told % len(chain.records)])
        else:
            spoil(chain, step, told)
        chain.heads = heads
    return chain.records


def repeat(chain: Chain, step: str, record: Record) -> None:
    """Append something about a record that is there already."""
    match step:
        case "again":
            chain.raw(record.key, record.value)
        case "park":
            chain.park(record.offset)
        case "park_wrongly":
            chain.park(record.offset, record_hash(b"wrong"))


def spoil(chain: Chain, step: str, told: Any) -> None:
    """Append what mostly does not count, or halts."""
    match step:
        case "term":
            before = chain.term
            chain.start_term(told)
            chain.term = max(before, told)
        case "other_term":
            key, by = told
            chain.append(key, EVENT, term=max(0, chain.term + by))
        case "seq":
            chain.append(KEYS[0], EVENT, seq=told)
        case "broken":
            chain.append(told, EVENT, prev_hash=record_hash(JUNK))
        case "foreign":
            chain.append(told, EVENT)
        case "rekeyed":
            chain.raw(told, encode(make_envelope(EVENT, 1, chain.term, {"account": "other"})))
        case "junk":
            chain.raw(told, JUNK)
        case "create":
            chain.control(LogCreated(log_id="x", topic="events", partition=0, partitions=2))


@given(st.lists(STEPS, max_size=25))
@settings(max_examples=300)
def test_the_rules_agree_with_a_plain_model(steps: list[tuple[str, Any]]) -> None:
    records = build_log(steps)
    assert read(records) == Model(records).letters()


@given(st.lists(STEPS, max_size=20), st.data())
def test_a_reader_that_starts_from_a_stored_state_agrees(
    steps: list[tuple[str, Any]], draw: st.DataObject
) -> None:
    records = build_log(steps)
    whole = read(records)
    at = draw.draw(st.integers(0, len(whole.rstrip("H"))))
    state = fresh()
    before = read(records[:at], state)
    if "H" in before:
        return  # what was parked later halts a reader of the first part alone
    stored = msgspec.json.decode(msgspec.json.encode(state), type=PartitionState)
    after = ""
    for record in records[at:]:
        try:
            outcome = admit(stored, record)
        except Halt:
            stored.parked.update(look_ahead(records[record.offset + 1 :]))
            try:
                outcome = admit(stored, record)
            except Halt:
                after += "H"
                break
        after += "v" if isinstance(outcome, Void) else "R"
    assert before + after == whole
