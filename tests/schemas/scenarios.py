"""One partition a rule: what each of its records counts as, told in letters."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from domain.events import AccountClosed, LogCreated, PriceRecorded, RecordParked, TermStarted
from schemas import validity
from schemas.codec import record_hash
from schemas.envelope import Record
from schemas.validity import PartitionState
from tests.schemas.chains import LOG_ID, Chain, key_in

EVENT = AccountClosed(reason="x")
JUNK = b"\x00 not a record"


def fresh(**fields: Any) -> PartitionState:
    told: dict[str, Any] = {"topic": "events", "partition": 0} | fields
    return PartitionState(**told)


def read(
    records: Sequence[Record], state: PartitionState | None = None, rules: Any = validity
) -> str:
    """Read a partition as every reader does; a letter for each record: valid, void, or a halt."""
    told = fresh() if state is None else state
    letters = ""
    for record in records:
        try:
            outcome = rules.admit(told, record)
        except rules.Halt:
            ahead = rules.look_ahead(records[record.offset + 1 :])
            told.parked.update(ahead)
            try:
                outcome = rules.admit(told, record)
            except rules.Halt:
                return letters + "H"
        letters += "v" if isinstance(outcome, rules.Void) else "R"
    return letters


def good() -> Chain:
    chain = Chain()
    chain.append("A1", EVENT)
    chain.append("A2", EVENT)
    chain.append("A1", EVENT)
    return chain


def lower_term() -> Chain:
    chain = good()
    chain.start_term(2)
    chain.append("A1", EVENT, term=1)
    return chain


def term_never_started() -> Chain:
    chain = good()
    chain.append("A1", EVENT, term=1)
    return chain


def term_not_raised() -> Chain:
    chain = good()
    chain.start_term(2, "a")
    chain.start_term(2, "b")
    chain.append("A1", EVENT)
    return chain


def term_started_again_lower() -> Chain:
    chain = good()
    chain.start_term(3, "a")
    chain.start_term(2, "b")
    chain.term = 3
    chain.append("A1", EVENT)
    return chain


def doubled() -> Chain:
    chain = good()
    chain.raw("A1", chain.records[-1].value)
    return chain


def skipped_seq() -> Chain:
    chain = good()
    chain.append("A1", EVENT, seq=4)
    return chain


def broken_chain() -> Chain:
    chain = good()
    chain.append("A1", EVENT, prev_hash=record_hash(JUNK))
    return chain


def late_broken_chain() -> Chain:
    chain = good()
    chain.append("A1", EVENT, prev_hash=record_hash(JUNK), seq=9)
    return chain


def undecodable() -> Chain:
    chain = good()
    chain.raw("A1", JUNK)
    chain.append("A1", EVENT)
    return chain


def parked() -> Chain:
    chain = undecodable()
    chain.start_term(1)
    chain.park(4)
    chain.append("A2", EVENT)
    return chain


def parked_in_a_lower_term() -> Chain:
    chain = undecodable()
    chain.start_term(2)
    chain.term = 0
    chain.park(4)
    return chain


def parked_by_a_wrong_digest() -> Chain:
    chain = undecodable()
    chain.park(4, record_hash(b"another"))
    return chain


def parked_at_the_second_try() -> Chain:
    chain = parked_by_a_wrong_digest()
    chain.park(4)
    return chain


def parked_broken_chain() -> Chain:
    chain = good()
    head = chain.heads["A1"]
    chain.append("A1", EVENT, prev_hash=record_hash(JUNK))
    chain.heads["A1"] = head
    chain.append("A1", EVENT)
    chain.park(4)
    return chain


def parked_though_valid() -> Chain:
    chain = good()
    chain.park(3)
    chain.append("A1", EVENT)
    return chain


def parked_beforehand() -> Chain:
    chain = good()
    chain.park(4, record_hash(JUNK))
    chain.raw("A1", JUNK)
    return chain


def parked_beforehand_beside_a_good_parking() -> Chain:
    chain = undecodable()
    chain.control(RecordParked(offset=8, digest=record_hash(JUNK)))
    chain.park(4)
    chain.raw("A1", JUNK)
    return chain


def parking_of_the_future() -> Chain:
    chain = good()
    chain.control(RecordParked(offset=4, digest=record_hash(JUNK)))
    chain.control(RecordParked(offset=0, digest=record_hash(JUNK)))
    return chain


def first_is_junk() -> Chain:
    chain = good()
    chain.records[0] = Record("events", 0, 0, None, JUNK)
    chain.park(0)
    return chain


def first_is_an_event() -> Chain:
    chain = Chain()
    chain.records.clear()
    chain.append("A1", EVENT)
    return chain


def first_is_a_term() -> Chain:
    chain = Chain()
    chain.records.clear()
    chain.start_term(1)
    return chain


def created_twice() -> Chain:
    chain = good()
    chain.control(LogCreated(log_id="other", topic="events", partition=0, partitions=9))
    chain.append("A1", EVENT)
    return chain


def created_as(**told: Any) -> Callable[[], Chain]:
    fields: dict[str, Any] = {"log_id": LOG_ID, "topic": "events", "partition": 0, "partitions": 1}

    def build() -> Chain:
        chain = Chain()
        chain.records.clear()
        chain.control(LogCreated(**(fields | told)))
        return chain

    return build


def created_in_a_term() -> Chain:
    chain = Chain()
    chain.records.clear()
    created = LogCreated(log_id=LOG_ID, topic="events", partition=0, partitions=1)
    chain.control(created, term=1)
    return chain


def key_is_not_the_stream() -> Chain:
    chain = good()
    value = chain.append("A1", EVENT).value
    chain.records[-1] = Record("events", 0, 4, "A2", value)
    return chain


def key_on_a_control_record() -> Chain:
    chain = good()
    value = chain.start_term(1).value
    chain.records[-1] = Record("events", 0, 4, "A1", value)
    return chain


def control_record_of_a_stream() -> Chain:
    chain = good()
    chain.append("A1", TermStarted(owner="x"), term=1)
    return chain


def control_record_with_a_seq() -> Chain:
    chain = good()
    chain.control(TermStarted(owner="x"), term=1, seq=1)
    return chain


def parking_with_a_seq() -> Chain:
    chain = undecodable()
    chain.control(RecordParked(offset=4, digest=record_hash(JUNK)), seq=1)
    return chain


def event_of_no_stream() -> Chain:
    chain = good()
    chain.control(EVENT)
    return chain


def event_of_another_log() -> Chain:
    chain = good()
    chain.append("A1", PriceRecorded(price=Decimal(1), currency="USD"))
    return chain


def stream_named_as_in_another_log() -> Chain:
    chain = good()
    chain.append("A1", EVENT, account=msgspec.UNSET, key="A1")
    return chain


def stream_of_another_partition() -> Chain:
    chain = Chain(partitions=16)
    chain.append(key_in(0, 16), EVENT)
    chain.append(key_in(1, 16), EVENT)
    return chain


def offset_skipped() -> Chain:
    chain = good()
    del chain.records[2]
    return chain


def offset_repeated() -> Chain:
    chain = good()
    chain.records.insert(2, chain.records[1])
    return chain


def record_of_another_partition() -> Chain:
    chain = good()
    chain.records[3] = msgspec.structs.replace(chain.records[3], partition=1)
    return chain


SCENARIOS: dict[Callable[[], Chain], str] = {
    good: "RRRR",
    lower_term: "RRRRRv",
    term_never_started: "RRRRv",
    term_not_raised: "RRRRRvR",
    term_started_again_lower: "RRRRRvR",
    doubled: "RRRRv",
    skipped_seq: "RRRRv",
    broken_chain: "RRRRH",
    late_broken_chain: "RRRRv",
    undecodable: "RRRRH",
    parked: "RRRRvRRRR",
    parked_in_a_lower_term: "RRRRvRRR",
    parked_by_a_wrong_digest: "RRRRH",
    parked_at_the_second_try: "RRRRvRRR",
    parked_broken_chain: "RRRRvRR",
    parked_though_valid: "RRRRRR",
    parked_beforehand: "RRRRvH",
    parked_beforehand_beside_a_good_parking: "RRRRvRvRH",
    parking_of_the_future: "RRRRvv",
    first_is_junk: "H",
    first_is_an_event: "H",
    first_is_a_term: "H",
    created_twice: "RRRRvR",
    created_as(topic="prices"): "H",
    created_as(partition=1, partitions=2): "H",
    created_as(partitions=0): "H",
    created_as(format=2): "H",
    created_in_a_term: "H",
    key_is_not_the_stream: "RRRRH",
    key_on_a_control_record: "RRRRH",
    control_record_of_a_stream: "RRRRH",
    control_record_with_a_seq: "RRRRH",
    parking_with_a_seq: "RRRRH",
    event_of_no_stream: "RRRRH",
    event_of_another_log: "RRRRH",
    stream_named_as_in_another_log: "RRRRH",
    stream_of_another_partition: "RRH",
    offset_skipped: "RRH",
    offset_repeated: "RRH",
    record_of_another_partition: "RRRH",
}
