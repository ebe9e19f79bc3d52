"""The sample file from its lines to the order that it leaves behind."""

from pathlib import Path

import pytest

from api.importing.fix import read_fix
from api.importing.lines import Fact, Listed, Options
from domain import decider
from domain.commands import Request
from domain.decisions import Accepted, Decision, Stamped
from domain.entities import Account, Deal, Entity, Instrument, Order
from domain.events import AccountOpened, InstrumentFields
from domain.orders import OrderRow, order_row
from schemas.canonical import command_hash

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "fix44_sample.fix"
ORDER_ID = "2024-01-02/a1"


class Book:
    """One account's entities, changed by what the decider accepts."""

    def __init__(self) -> None:
        self.entities: dict[tuple[str, str], Entity] = {
            ("account", ""): Account(settings=AccountOpened(base_currency="USD"), offset=1, seq=1),
        }
        self.seq = 1

    def get(self, kind: str, entity_id: str) -> Entity | None:
        if kind == "instrument":
            return Instrument(
                terms=InstrumentFields(symbol=entity_id), partition=0, offset=1, seq=1
            )
        return self.entities.get((kind, entity_id))

    def submit(self, request: Request) -> Decision:
        content_hash = command_hash(request)
        decision = decider.decide(self, request, content_hash)
        if isinstance(decision, Accepted):
            self.seq += 1
            stamped = Stamped(
                event=decision.event,
                key=request.key,
                seq=self.seq,
                offset=self.seq,
                event_time=request.event_time,
                content_hash=content_hash,
                flags=decision.flags,
            )
            for kind, entity_id, entity in decider.evolve(self, stamped):
                self.entities[kind, entity_id] = entity
        return decision

    def row(self, order_id: str = ORDER_ID) -> OrderRow:
        order = self.entities["order", order_id]
        assert isinstance(order, Order)
        return order_row("A1", order)


def options() -> Options:
    return Options(digest="0" * 64)


def facts(path: Path) -> list[Fact]:
    return [line for line in read_fix(str(path), options()) if isinstance(line, Fact)]


# Line, status, quantity, filled, leaves.
STORY = [
    (2, "pending_new", 100, 0, 100),
    (3, "pending_new", 100, 0, 100),
    (4, "new", 100, 0, 100),
    (5, "partially_filled", 100, 30, 70),
    (6, "pending_replace", 100, 30, 70),
    (7, "partially_filled", 100, 50, 50),
    (8, "pending_replace", 100, 50, 50),
    (9, "partially_filled", 150, 50, 100),
    (10, "pending_cancel", 150, 50, 100),
    (11, "filled", 150, 150, 0),
    (12, "filled", 150, 150, 0),
    (13, "partially_filled", 150, 130, 20),
    (14, "partially_filled", 150, 130, 20),
    (15, "done_for_day", 150, 130, 0),
]


def test_the_sample_tells_one_order_from_its_entry_to_the_end_of_its_day() -> None:
    book = Book()
    told = []
    for fact in facts(SAMPLE):
        decision = book.submit(fact.request)
        assert isinstance(decision, Accepted), (fact.line, decision)
        assert decision.flags == (), fact.line
        row = book.row()
        told.append((fact.line, row.status, row.quantity, row.cum_quantity, row.leaves_quantity))
        assert row.flags == ()
    assert told == STORY
    row = book.row()
    assert str(row.average_price) == "185.5423076923"
    assert (row.cl_ord_id, str(row.limit_price)) == ("a2", "185.60")
    assert row.ids == {"ClOrdID": "a1", "ClOrdID.2": "a2", "ClOrdID.3": "a3", "OrderID": "V1"}
    statuses = {
        entity_id: entity.status
        for (kind, entity_id), entity in book.entities.items()
        if kind == "deal" and isinstance(entity, Deal)
    }
    assert statuses == {
        "2024-01-02/e3": "corrected",
        "2024-01-02/e4": "busted",
        "2024-01-02/e7": "effective",
    }


def test_lines_of_the_session_are_listed() -> None:
    listed = [line for line in read_fix(str(SAMPLE), options()) if isinstance(line, Listed)]
    assert [(line.line, line.kind) for line in listed] == [(1, "Logon"), (16, "Heartbeat")]


def test_reading_twice_makes_the_same_requests() -> None:
    assert facts(SAMPLE) == facts(SAMPLE)
    ids = [fact.request.command_id for fact in facts(SAMPLE)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("begin", [6, 9, 11])
def test_a_file_that_continues_another_finds_its_order(tmp_path: Path, begin: int) -> None:
    lines = SAMPLE.read_bytes().splitlines(keepends=True)
    first, second = tmp_path / "1.fix", tmp_path / "2.fix"
    first.write_bytes(b"".join(lines[: begin - 1]))
    second.write_bytes(b"".join(lines[begin - 1 :]))
    book = Book()
    for path in (first, second):
        for fact in facts(path):
            book.submit(fact.request)
    orders = [entity for entity in book.entities.values() if isinstance(entity, Order)]
    assert [order.order_id for order in orders] == [ORDER_ID]
    row = book.row()
    assert (row.status, row.cum_quantity, row.leaves_quantity) == ("done_for_day", 130, 0)
    assert str(row.average_price) == "185.5423076923"
    assert row.flags == ()


def test_a_drop_copy_without_the_orders_own_messages_tells_the_whole_order(tmp_path: Path) -> None:
    path = tmp_path / "drop.fix"
    lines = SAMPLE.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b"|35=8|" in line))
    book = Book()
    for fact in facts(path):
        assert isinstance(book.submit(fact.request), Accepted)
    row = book.row()
    assert (row.instrument, row.side, row.order_type) == ("AAPL", "buy", "limit")
    assert (row.status, row.quantity, row.cum_quantity) == ("done_for_day", 150, 130)
    assert row.flags == ("assumed_order",)
