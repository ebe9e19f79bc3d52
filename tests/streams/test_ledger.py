"""The ledger's front on a real server: answers, batches, two writers, what a failure leaves."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import psycopg
import pytest

from domain import decider
from domain.commands import OpenAccount
from domain.events import AccountOpened, CommandRefused, DealRecorded
from domain.times import to_ns
from infra.errors import ServerUnavailable
from schemas import codec
from schemas.envelope import GENESIS_HASH
from schemas.partitioning import partition_of
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from tests.streams.books import index_rows, streams_said, valid_records
from tests.streams.requests import cash, deal, define, open_account, price, request, send


def started(ledger: Ledger) -> Ledger:
    answers = ledger.submit([open_account("A1"), define("AAPL")])
    assert [answer.status for answer in answers] == ["accepted", "accepted"]
    return ledger


def statuses(ledger: Ledger, *requests: msgspec.Struct) -> list[str]:
    return [answer.status for answer in ledger.submit(requests)]  # type: ignore[arg-type]


def test_an_accepted_command_is_a_record_at_the_answered_place(ledger: Ledger) -> None:
    started(ledger)
    (answer,) = ledger.submit([deal("c1", "A1", "d1")])
    partition = partition_of("A1", 16)
    assert (answer.status, answer.topic, answer.partition) == ("accepted", "events", partition)
    assert (answer.seq, answer.event_type, answer.replayed) == (2, "DealRecorded", False)
    assert answer.position == f"{partition}:{answer.offset}"
    assert answer.offset is not None
    (record,) = ledger.log.read("events", partition, answer.offset, 1)
    assert record.value == answer.event
    recorded = codec.decode(record)
    assert isinstance(recorded.event, DealRecorded)
    assert recorded.event.cost == Decimal("1855.00")
    envelope = recorded.envelope
    assert (envelope.account, envelope.seq, envelope.command_id) == ("A1", 2, "c1")
    assert envelope.code.startswith("daybook")
    reference = partition_of("AAPL", 16)
    assert envelope.basis == {"reference": f"{reference}:1"}


def test_positions_outside_events_name_their_log(ledger: Ledger) -> None:
    defined, priced = ledger.submit([define("AAPL"), price("p1", "AAPL")])
    partition = partition_of("AAPL", 16)
    assert defined.position == f"reference/{partition}:1"
    assert priced.position == f"prices/{partition}:1"
    assert (defined.seq, priced.seq) == (1, 1)


def test_each_stream_is_a_chain(ledger: Ledger) -> None:
    started(ledger)
    ledger.submit([cash(f"c{n}", "A1", f"m{n}") for n in range(5)])
    ledger.submit([cash(f"c{n}", "A1", f"m{n}") for n in range(5, 9)])
    previous = GENESIS_HASH
    chain = [r for r in valid_records(ledger.log) if r.envelope.account == "A1"]
    assert [r.envelope.seq for r in chain] == list(range(1, 11))
    for recorded in chain:
        assert recorded.envelope.prev_hash == previous
        previous = recorded.hash


def test_the_same_command_again_is_a_duplicate_with_the_first_answer(ledger: Ledger) -> None:
    started(ledger)
    (first,) = ledger.submit([deal("c1", "A1", "d1")])
    again, inside = ledger.submit([deal("c1", "A1", "d1", "10.0"), deal("c1", "A1", "d1")])
    for answer in (again, inside):
        assert (answer.status, answer.replayed) == ("duplicate", True)
        assert (answer.position, answer.seq, answer.event) == (
            first.position,
            first.seq,
            first.event,
        )
    both = ledger.submit([cash("c2", "A1", "m1"), cash("c2", "A1", "m1")])
    assert [answer.status for answer in both] == ["accepted", "duplicate"]
    assert both[0].event == both[1].event


def test_a_command_id_used_for_something_else_is_a_conflict(ledger: Ledger) -> None:
    started(ledger)
    answers = ledger.submit([cash("c1", "A1", "m1"), cash("c1", "A1", "m1", "2")])
    assert [answer.status for answer in answers] == ["accepted", "conflict"]
    (later,) = ledger.submit([cash("c1", "A1", "m2")])
    assert (later.status, later.reason, later.position) == ("conflict", "conflict", None)
    assert later.numbers["first_position"] == answers[0].position
    assert len(streams_said(ledger.log)["events", "A1"]) == 2


def test_command_ids_are_those_of_a_stream(ledger: Ledger) -> None:
    asked = [open_account("A1", "same"), open_account("A2", "same")]
    assert statuses(ledger, *asked) == ["accepted", "accepted"]


def test_a_fact_told_under_another_command_id_is_a_duplicate(ledger: Ledger) -> None:
    started(ledger)
    first, again = ledger.submit([deal("c1", "A1", "d1"), deal("c2", "A1", "d1")])
    assert (again.status, again.replayed) == ("duplicate", False)
    assert (again.position, again.event, again.event_type) == (
        first.position,
        first.event,
        "DealRecorded",
    )
    assert again.command_id == "c2"
    (later,) = ledger.submit([deal("c3", "A1", "d1")])
    assert (later.status, later.position) == ("duplicate", first.position)


def test_a_refusal_is_recorded_with_what_was_asked(ledger: Ledger) -> None:
    started(ledger)
    (answer,) = ledger.submit([send("c1", "A1", "t1", "A1")])
    assert (answer.status, answer.reason) == ("refused", "to_itself")
    assert answer.numbers == {"to_account": "A1"}
    (recorded,) = [r for r in valid_records(ledger.log) if r.envelope.command_id == "c1"]
    assert isinstance(recorded.event, CommandRefused)
    assert recorded.event.command_type == "SendTransfer"
    assert recorded.event.asked["transfer_id"] == "t1"
    assert recorded.event.asked["cash"] == [{"currency": "USD", "amount": "5"}]
    (again,) = ledger.submit([send("c1", "A1", "t1", "A1")])
    assert (again.status, again.reason, again.replayed) == ("refused", "to_itself", True)
    assert (again.numbers, again.position) == (answer.numbers, answer.position)


def test_an_outside_fact_with_a_taken_id_is_refused_and_kept(ledger: Ledger) -> None:
    started(ledger)
    answers = ledger.submit([deal("c1", "A1", "d1"), deal("c2", "A1", "d1", "11")])
    assert [answer.status for answer in answers] == ["accepted", "refused"]
    assert answers[1].reason == "conflict"
    assert answers[1].event_type == "CommandRefused"
    assert len(streams_said(ledger.log)["events", "A1"]) == 3


def test_what_only_lacks_something_is_not_recorded_and_may_be_tried_again(
    ledger: Ledger,
) -> None:
    asked = deal("c1", "A1", "d1")
    (lacking,) = ledger.submit([asked])
    assert (lacking.status, lacking.position) == ("lacking", None)
    assert lacking.reason == "unknown_account"
    assert streams_said(ledger.log) == {}
    answers = ledger.submit([asked, open_account("A1"), asked, define("AAPL"), asked])
    assert [answer.status for answer in answers] == [
        "lacking",
        "accepted",
        "lacking",
        "accepted",
        "accepted",
    ]


def test_a_decision_names_the_absence_that_it_read(log: PostgresLog) -> None:
    def decide(view, asked, content_hash):  # type: ignore[no-untyped-def]
        assert view.get("instrument", "NONE") is None
        return decider.decide(view, asked, content_hash)

    ledger = Ledger(log, decide=decide)
    (answer,) = ledger.submit([open_account("A1")])
    ledger.close()
    assert answer.event is not None
    assert codec.envelope(answer.event).basis == {"reference": f"{partition_of('NONE', 16)}:0"}


def test_recorded_time_is_the_clock_and_never_stands_still(log: PostgresLog) -> None:
    now = to_ns(codec.envelope(log.read("events", 0, 0, 1)[0].value).recorded_time) + 10**12
    ticks = iter([now, now, now - 5, now + 1, now + 100])
    ledger = Ledger(log, clock=lambda: next(ticks))
    ledger.submit([open_account("A1"), *(cash(f"c{n}", "A1", f"m{n}") for n in range(4))])
    ledger.close()
    times = [to_ns(r.envelope.recorded_time) for r in valid_records(log) if r.envelope.account]
    assert times == [now, now + 1, now + 2, now + 3, now + 100]


def test_answers_keep_the_order_over_many_batches(ledger: Ledger) -> None:
    accounts = [f"A{n}" for n in range(20)]
    ledger.submit([open_account(account) for account in accounts])
    asked = [cash(f"c{n}", accounts[n % 20], f"m{n}") for n in range(1500)]
    answers = ledger.submit(asked)
    assert [answer.command_id for answer in answers] == [one.command_id for one in asked]
    assert {answer.status for answer in answers} == {"accepted"}
    assert len(valid_records(ledger.log)) == 48 + 20 + 1500


@pytest.fixture
def other(dsn: str, log: PostgresLog) -> Iterator[Ledger]:
    """A ledger of another process, as far as the first can tell."""
    second = PostgresLog.open(dsn, log.schema)
    ledger = Ledger(second)
    yield ledger
    ledger.close()
    second.close()


def test_what_another_ledger_wrote_is_seen(ledger: Ledger, other: Ledger) -> None:
    started(ledger)
    assert statuses(other, deal("c1", "A1", "d1")) == ["accepted"]
    assert statuses(ledger, deal("c1", "A1", "d1")) == ["duplicate"]
    assert statuses(ledger, deal("c2", "A1", "d2")) == ["accepted"]
    assert statuses(other, deal("c3", "A1", "d2", "99")) == ["refused"]
    assert statuses(other, deal("c1", "A1", "d9")) == ["conflict"]


def test_an_instrument_that_another_ledger_changed_is_read_anew(
    ledger: Ledger, other: Ledger
) -> None:
    started(ledger)
    ledger.submit([deal("c1", "A1", "d1")])
    other.submit([define("AAPL", multiplier=Decimal(100))])
    (answer,) = ledger.submit([deal("c2", "A1", "d2")])
    assert answer.event is not None
    recorded = codec.envelope(answer.event)
    assert recorded.basis == {"reference": f"{partition_of('AAPL', 16)}:2"}
    event = codec.event_of(recorded)
    assert isinstance(event, DealRecorded)
    assert event.cost == Decimal("185500.00")


def test_a_broken_rule_fails_its_batch_and_nothing_of_it_is_written(log: PostgresLog) -> None:
    def decide(view, asked, content_hash):  # type: ignore[no-untyped-def]
        if asked.command_id == "bad":
            raise AssertionError("an invariant is broken")
        return decider.decide(view, asked, content_hash)

    ledger = started(Ledger(log, decide=decide))
    before = streams_said(log)
    with pytest.raises(AssertionError, match="invariant"):
        ledger.submit([cash("c1", "A1", "m1"), cash("bad", "A1", "m2")])
    assert streams_said(log) == before
    assert statuses(ledger, cash("c1", "A1", "m1")) == ["accepted"]
    assert [row[-2] for row in streams_said(log)["events", "A1"]] == [(), ()]
    ledger.close()


def test_memory_is_bounded_and_forgetting_changes_nothing(log: PostgresLog) -> None:
    ledger = started(Ledger(log, memory_size=2))
    asked = [deal(f"c{n}", "A1", f"d{n % 40}") for n in range(80)]
    assert statuses(ledger, *asked) == ["accepted"] * 40 + ["duplicate"] * 40
    for memory in ledger._memories.values():
        assert len(memory.entities._young) <= 2
        assert len(memory.entities._old) <= 2
    ledger.close()


@pytest.mark.parametrize(
    "table",
    ["log_records", "decider_entities", "decider_streams", "log_partitions", "decider_checkpoints"],
)
def test_a_connection_lost_at_any_step_leaves_whole_batches_or_none(
    log: PostgresLog, table: str
) -> None:
    """The server ends the writer's session when it has come to a table."""
    ledger = started(Ledger(log))
    before, entities = streams_said(log), _index(log)
    _end_sessions_that_write(log, table)
    asked = [deal("c1", "A1", "d1"), cash("c2", "A1", "m1")]
    with pytest.raises(ServerUnavailable):
        ledger.submit(asked)
    assert (streams_said(log), _index(log)) == (before, entities)
    _let_them_write(log, table)
    assert statuses(ledger, *asked) == ["accepted", "accepted"]
    assert statuses(ledger, *asked) == ["duplicate", "duplicate"]
    ledger.close()


def test_a_connection_lost_in_the_commit_leaves_whole_batches_or_none(log: PostgresLog) -> None:
    ledger = started(Ledger(log))
    before = streams_said(log)
    _end_sessions_that_write(log, "log_records", deferred=True)
    asked = [deal("c1", "A1", "d1"), cash("c2", "A1", "m1")]
    with pytest.raises(ServerUnavailable):
        ledger.submit(asked)
    assert streams_said(log) == before
    _let_them_write(log, "log_records")
    assert statuses(ledger, *asked) == ["accepted", "accepted"]
    ledger.close()


def test_a_session_that_ends_between_batches_is_opened_again(ledger: Ledger) -> None:
    started(ledger)
    killer = ledger.log.connect()
    killer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    killer.close()
    asked = cash("c1", "A1", "m1")
    with pytest.raises(ServerUnavailable):
        ledger.submit([asked])
    assert statuses(ledger, asked) == ["accepted"]


def test_a_full_column_is_no_outage_and_leaves_nothing(ledger: Ledger) -> None:
    """What Postgres refuses (here a NUL in a text) passes through as it is."""
    with pytest.raises((psycopg.DataError, ValueError)):
        ledger.submit([request("c1", "A\x00", OpenAccount(base_currency="USD"))])
    assert statuses(started(ledger), cash("c1", "A1", "m1")) == ["accepted"]


def test_events_hold_what_the_request_told(ledger: Ledger) -> None:
    told = request(
        "c1",
        "A1",
        OpenAccount(base_currency="EUR"),
        actor="ann",
        correlation_id="k",
        causation_id="j",
        flags=("assumed",),
    )
    (answer,) = ledger.submit([told])
    assert answer.event is not None
    envelope = codec.envelope(answer.event)
    assert (envelope.actor, envelope.correlation_id, envelope.causation_id) == ("ann", "k", "j")
    assert envelope.flags == answer.flags == ("assumed",)
    assert codec.event_of(envelope) == AccountOpened(base_currency="EUR")


def _index(log: PostgresLog) -> object:
    connection = log.connect()
    rows = index_rows(connection)
    connection.close()
    return rows


def _end_sessions_that_write(log: PostgresLog, table: str, *, deferred: bool = False) -> None:
    connection = log.connect()
    connection.execute(
        "CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
    )
    kind, when = (
        ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW")
        if deferred
        else ("TRIGGER", "FOR EACH STATEMENT")
    )
    connection.execute(
        f"CREATE {kind} end_session AFTER INSERT OR UPDATE ON {table} {when}"
        " EXECUTE FUNCTION end_session()".encode()
    )
    connection.close()


def _let_them_write(log: PostgresLog, table: str) -> None:
    connection = log.connect()
    connection.execute(f"DROP TRIGGER end_session ON {table}".encode())
    connection.close()
