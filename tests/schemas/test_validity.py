"""The rules of the log: each by an example, and none to spare."""

import types
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from domain.events import PriceRecorded
from schemas import validity
from schemas.codec import record_hash
from schemas.envelope import Recorded
from schemas.validity import Halt, Void, admit, advance, judge, look_ahead
from tests.schemas.chains import LOG_ID, Chain, make_records
from tests.schemas.scenarios import (
    EVENT,
    SCENARIOS,
    broken_chain,
    fresh,
    good,
    lower_term,
    parked,
    read,
)


@pytest.mark.parametrize(("build", "letters"), SCENARIOS.items())
def test_each_rule(build: Callable[[], Chain], letters: str) -> None:
    assert read(build().records) == letters


MUTATIONS: list[tuple[str, str]] = [
    ("if envelope.term != state.term:", "if envelope.term > state.term:"),
    ("if envelope.term != state.term:", "if envelope.term < state.term:"),
    ("if envelope.seq != seq + 1:", "if envelope.seq < seq + 1:"),
    ("if envelope.seq != seq + 1:", "if envelope.seq > seq + 1:"),
    ("if envelope.prev_hash != last_hash:", "if False:"),
    ("if belongs != state.partition:", "if False:"),
    ("if record.key != envelope.stream:", "if False:"),
    ("if named != wanted:", "if False:"),
    ("if envelope.type not in TYPES_OF.get(record.topic, ()):", "if False:"),
    ("and (envelope.seq, envelope.prev_hash) != _NO_HEAD", "and False"),
    ("case TermStarted() if envelope.term <= state.term:", "case TermStarted() if False:"),
    ("if envelope.term <= state.term:", "if envelope.term < state.term:"),
    ("            state.term = envelope.term", "            pass"),
    ("case _ if offset == 0:", "case _ if False:"),
    ("if offset == 0:\n        raise Halt(offset", "if False:\n        raise Halt(offset"),
    ("record_hash(record.value) not in digests", "not digests"),
    ("if not 0 < parked.offset < recorded.offset:", "if not 0 < parked.offset:"),
    ("if not 0 < parked.offset < recorded.offset:", "if not parked.offset < recorded.offset:"),
    (
        "        case LogCreated():\n            return Void(",
        "        case None:\n            return Void(",
    ),
    ("if said != (state.topic, state.partition) or not", "if not"),
    ("or not created.partition < created.partitions:", "or False:"),
    ("if created.format != LOG_FORMAT:", "if False:"),
    ("if recorded.envelope.term != 0:", "if False:"),
    ("if record.offset != state.next_offset:", "if record.offset < state.next_offset:"),
    ("if record.offset != state.next_offset:", "if record.offset > state.next_offset:"),
    ("if record.topic != state.topic or record.partition != state.partition:", "if False:"),
    ("state.heads[stream] = (envelope.seq, outcome.hash)", "pass"),
    ("parked.setdefault(event.offset, []).append(event.digest)", "pass"),
    (
        "parked.setdefault(event.offset, []).append(event.digest)",
        "parked.setdefault(event.offset, [event.digest])",
    ),
    ("and _parking_fault(recorded, event) is None", ""),
]


def mutated(old: str, new: str) -> types.ModuleType:
    source = Path(validity.__file__).read_text(encoding="utf-8")
    assert old in source, f"the rules no longer say: {old}"
    module = types.ModuleType("schemas.validity_mutated")
    exec(source.replace(old, new), module.__dict__)
    return module


@pytest.mark.parametrize(("old", "new"), MUTATIONS)
def test_no_rule_is_to_spare(old: str, new: str) -> None:
    rules = mutated(old, new)
    differing = []
    for build, letters in SCENARIOS.items():
        try:
            state = rules.PartitionState(topic="events", partition=0)
            same = read(build().records, state, rules) == letters
        except (ArithmeticError, LookupError):
            same = False
        if not same:
            differing.append(build.__name__)
    assert differing


# --- the step itself -----------------------------------------------------------------------------


def test_judging_changes_nothing_and_advancing_moves_on() -> None:
    records = good().records
    state = fresh()
    for record in records:
        before = msgspec.json.encode(state)
        outcome = judge(state, record)
        assert msgspec.json.encode(state) == before
        advance(state, outcome)
        assert state.next_offset == record.offset + 1
    assert state.log_id == LOG_ID
    assert state.partitions == 1
    assert state.heads == {
        "A1": (2, record_hash(records[3].value)),
        "A2": (1, record_hash(records[2].value)),
    }


def test_a_halt_leaves_the_state_and_says_where_and_why() -> None:
    state = fresh()
    records = broken_chain().records
    for record in records[:4]:
        assert isinstance(admit(state, record), Recorded)
    before = msgspec.json.encode(state)
    with pytest.raises(Halt, match="the chain of 'A1' is broken before seq 3") as halted:
        admit(state, records[4])
    assert halted.value.offset == 4
    assert msgspec.json.encode(state) == before


def test_a_void_record_says_why() -> None:
    state = fresh()
    outcomes = [admit(state, record) for record in lower_term().records]
    assert outcomes[-1] == Void(5, "term 1, where 2 is the partition's")


def test_a_reader_of_one_log_does_not_go_on_in_another() -> None:
    with pytest.raises(Halt, match="the log is"):
        admit(fresh(log_id="another"), Chain().records[0])


def test_a_parking_is_forgotten_once_it_is_passed() -> None:
    records = parked().records
    state = fresh(parked=look_ahead(records))
    assert state.parked
    for record in records:
        admit(state, record)
    assert state.parked == {}


@pytest.mark.parametrize("topic", ["prices", "reference"])
def test_the_other_logs_name_their_streams_by_key(topic: Any) -> None:
    event = PriceRecorded(price=Decimal(1), currency="USD")
    chain = Chain(topic=topic)
    chain.append("AAPL", event)
    letters = read(chain.records, fresh(topic=topic))
    assert letters == ("RR" if topic == "prices" else "RH")


def test_records_made_for_other_tests_are_valid() -> None:
    facts = [(f"A{number % 7}", EVENT) for number in range(40)]
    records = make_records(facts, partitions=4)
    seen = 0
    for partition in range(4):
        mine = [record for record in records if record.partition == partition]
        assert read(mine, fresh(partition=partition)) == "R" * len(mine)
        seen += len(mine) - 1
    assert seen == 40
