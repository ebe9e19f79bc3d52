"""The reference, the compiled fold and the algebra agree to the last digit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.errors import InvalidValue
from projections.positions.columns import DealColumns, deal_columns
from projections.positions.facts import MONEY, UNIT, Deal, NamedLot, PositionKey
from projections.positions.kernel import DoesNotFit, KernelResult, fold_columns
from projections.positions.lots import Book
from projections.positions.prefix_sums import Audit, audit_position
from projections.positions.reference import fold
from tests.projections.position_facts import KEY, deal, instant, leg, money, movement, units

MOST = (1 << 63) - 1
names = st.sampled_from(["W", "X", "Y", "Z"])
whole_sizes = st.integers(1, 6).map(lambda n: n * UNIT)
odd_sizes = st.integers(1, 10**21)
whole_prices = st.integers(-3, 9).map(lambda n: n * UNIT)
odd_prices = st.integers(-(10**22), 10**22)
huge = st.integers(10**37, 10**38)


@st.composite
def plain_deals(draw: st.DrawFn, sizes: st.SearchStrategy[int], prices: st.SearchStrategy[int]):
    """Deals at unit prices: longs, shorts, crossings, equal and negative prices."""
    rows = draw(st.lists(st.tuples(names, st.sampled_from((-1, 1)), sizes, prices), max_size=40))
    return [
        Deal(
            PositionKey("A1", name, "USD"), f"d{n}", instant(n), 0, n, sign * size, sign * size * p
        )
        for n, (name, sign, size, p) in enumerate(rows)
    ]


some_deals = st.one_of(
    plain_deals(whole_sizes, whole_prices),
    plain_deals(odd_sizes, odd_prices),
    plain_deals(st.one_of(whole_sizes, odd_sizes), st.one_of(whole_prices, odd_prices, huge)),
)


def kernel_book(columns: DealColumns, result: KernelResult) -> dict[PositionKey, Audit]:
    """The kernel's result at the ledger's scales, in the shape of the audit."""
    book = {}
    lots = result.lots
    for p, key in enumerate(columns.keys):
        quantity_unit, price_unit = columns.quantity_unit[p], columns.price_unit[p]
        unit = quantity_unit * price_unit
        mine = np.flatnonzero(lots.position == p)
        open_lots = tuple(
            (
                columns.rows[int(lots.row[i])].deal_id,
                int(lots.remaining[i]) * quantity_unit,
                int(lots.remaining[i]) * int(lots.price[i]) * unit,
            )
            for i in mine
        )
        quantity = int(result.quantity[p]) * quantity_unit
        cost, realised = result.cost_basis()[p] * unit, result.realised()[p] * unit
        book[key] = Audit(quantity, cost, realised, open_lots)
    return book


def reference_book(book: Book) -> dict[PositionKey, Audit]:
    return {
        key: Audit(
            state.quantity,
            state.cost36,
            state.realised36,
            tuple((lot.lot_id, lot.remaining, lot.cost36) for lot in state.lots),
        )
        for key, state in book.items()
    }


def folded(columns: DealColumns, state: KernelResult | None = None, rows: slice = slice(None)):
    return fold_columns(
        columns.position_index[rows],
        columns.quantity[rows],
        columns.price[rows],
        state,
        len(columns.keys),
    )


@settings(deadline=None)
@given(some_deals)
def test_all_three_agree(deals: list[Deal]) -> None:
    expected = reference_book(fold(deals))
    by_algebra = {
        key: audit_position(fact for fact in deals if fact.key == key) for key in expected
    }
    assert by_algebra == expected
    columns, unfit = deal_columns(deals)
    result = folded(columns)
    # A position of sizes too far apart overflows 64 bits in the smallest one's unit.
    assume(isinstance(result, KernelResult))
    assert isinstance(result, KernelResult)
    by_kernel = kernel_book(columns, result)
    assert by_kernel == {key: state for key, state in expected.items() if key not in unfit}
    assert unfit == expected.keys() - by_kernel.keys()


@settings(deadline=None)
@given(plain_deals(odd_sizes, odd_prices).filter(bool), st.integers(0, 40), st.integers(0, 40))
def test_resuming_from_a_state_equals_one_go(deals: list[Deal], one: int, two: int) -> None:
    columns, _ = deal_columns(deals)
    state = None
    cuts = [0, *sorted((min(one, len(columns.rows)), min(two, len(columns.rows))))]
    for start, stop in zip(cuts, [*cuts[1:], None], strict=True):
        result = folded(columns, state, slice(start, stop))
        # Odd sizes may add up beyond 64 bits in the smallest one's unit.
        assume(isinstance(result, KernelResult))
        assert isinstance(result, KernelResult)
        state = result
    assert isinstance(state, KernelResult)
    whole = folded(columns)
    assert isinstance(whole, KernelResult)
    assert kernel_book(columns, state) == kernel_book(columns, whole)
    assert state.lots.quantity.tolist() == whole.lots.quantity.tolist()


@settings(deadline=None)
@given(plain_deals(whole_sizes, whole_prices), st.integers(0, 40))
def test_every_row_says_what_is_left_of_the_lot_it_opened(deals: list[Deal], cut: int) -> None:
    columns, _ = deal_columns(deals)
    first = folded(columns, None, slice(0, cut))
    assert isinstance(first, KernelResult)
    second = folded(columns, first, slice(cut, None))
    assert isinstance(second, KernelResult)
    whole = folded(columns)
    assert isinstance(whole, KernelResult)
    left = first.remaining.copy()
    left[first.lots.row] = second.carried_remaining
    assert np.concatenate([left, second.remaining]).tolist() == whole.remaining.tolist()
    assert np.concatenate([first.opened, second.opened]).tolist() == whole.opened.tolist()
    open_rows = np.flatnonzero(whole.remaining).tolist()
    assert sorted(whole.lots.row.tolist()) == open_rows


def columns_of(*rows: tuple[int, int, int]):
    index, quantity, price = (list(column) for column in zip(*rows, strict=True))
    return np.array(index, np.int32), np.array(quantity, np.int64), np.array(price, np.int64)


def test_products_beyond_64_bits_are_exact() -> None:
    result = fold_columns(*columns_of((0, MOST, MOST), (0, -MOST, MOST - 7), (1, MOST, 1)))
    assert isinstance(result, KernelResult)
    assert result.realised() == [-7 * MOST, 0]
    assert result.cost_basis() == [0, MOST]


@pytest.mark.parametrize(
    "rows",
    [
        [(1, MOST, 1), (1, 1, 1)],  # quantity
        [(1, -MOST, 1), (1, -2, 1)],
        [(1, MOST, MOST), (1, -MOST, -MOST), (1, MOST, MOST)],  # money
        [(1, MOST, -MOST), (1, -MOST, MOST), (1, MOST, -MOST)],
    ],
)
def test_an_overflow_names_its_position_and_changes_nothing(rows: list) -> None:
    state = fold_columns(*columns_of((0, 5, 7), (1, 3, 2), (1, -1, 4), (2, -8, 1)))
    assert isinstance(state, KernelResult)
    if rows[0][1] < 0:
        rows = [(1, -2, 0), *rows]
    before = snapshot(state)
    answer = fold_columns(*columns_of((0, -2, 9), *rows, (2, 3, 3)), state)
    assert answer == DoesNotFit((1,))
    assert snapshot(state) == before
    after = fold_columns(*columns_of((0, -2, 9), (2, 3, 3)), state)
    assert isinstance(after, KernelResult)
    assert after.realised() == [4, 2, -6]


def snapshot(state: KernelResult) -> list:
    lots = state.lots
    return [
        column.tolist()
        for column in (
            state.quantity, state.paid_high, state.paid_low, state.cost_high, state.cost_low,
            lots.position, lots.row, lots.quantity, lots.remaining, lots.price,
        )
    ]  # fmt: skip


def test_what_does_not_fit_is_named_for_the_reference() -> None:
    keys = {name: PositionKey("A1", name, "USD") for name in "ABCDEF"}
    named = (NamedLot("d1", UNIT),)
    odd = Deal(keys["D"], "d9", instant(9), 0, 9, units("1e19") + 1, units("1e19") + 1)
    facts = [
        deal(1, 10, "2", keys["A"]),
        deal(2, 3, 0, keys["B"], cost="10"),  # a told cost that its units do not divide
        deal(3, 1, "2", keys["C"]),
        deal(4, -1, "2", keys["C"], lots=named),
        odd,  # 38 digits of quantity, no unit in common
        deal(10, "0.5", "3", keys["D"]),
        deal(11, 4, "2.5", keys["E"], fees36=money(1), capitalise_fees=True),
        deal(12, -4, "2.5", keys["A"]),
    ]
    columns, unfit = deal_columns(facts)
    assert unfit == {keys["B"], keys["C"], keys["D"]}
    assert columns.keys == (keys["A"], keys["E"])
    assert columns.quantity.tolist() == [5, 1, -2]
    assert columns.price.tolist() == [4, 1, 5]
    assert [row.deal_id for row in columns.rows] == ["d1", "d11", "d12"]
    moved = movement(13, "expiry")
    assert deal_columns([*facts, moved])[1] == unfit


def test_a_position_that_units_moved_in_or_out_of_is_left_to_the_reference() -> None:
    facts = [deal(1, 10, "2"), movement(2, "corporate_action", leg("ACME", -10), leg("NEW", 5))]
    columns, unfit = deal_columns(facts)
    assert columns.keys == ()
    assert {key.instrument for key in unfit} == {"ACME", "NEW"}


def test_columns_that_cannot_be_folded_are_refused() -> None:
    index, quantity, price = columns_of((0, 1, 1), (1, 1, 1))
    with pytest.raises(InvalidValue, match="quantity"):
        fold_columns(index, np.array([1, 0]), price)
    with pytest.raises(InvalidValue, match="price"):
        fold_columns(index, quantity, price[:1])
    with pytest.raises(InvalidValue, match="price"):
        fold_columns(index, quantity, price * 0.5)
    with pytest.raises(InvalidValue, match="position_index"):
        fold_columns(index, quantity, price, positions=1)
    with pytest.raises(InvalidValue, match="position_index"):
        fold_columns(index - 1, quantity, price)


def test_no_rows_are_an_empty_book_and_more_positions_may_come() -> None:
    index, quantity, price = columns_of((3, 2, 5))
    empty = fold_columns(index[:0], quantity[:0], price[:0])
    assert isinstance(empty, KernelResult)
    assert (empty.rows, empty.realised()) == (0, [])
    result = fold_columns(index, quantity, price, empty)
    assert isinstance(result, KernelResult)
    assert (result.rows, result.cost_basis()) == (1, [0, 0, 0, 10])


def test_the_algebra_says_where_it_does_not_hold() -> None:
    indivisible = deal(1, 3, 0, cost="10")
    assert audit_position([indivisible, deal(2, -1, "5")]) is None
    assert audit_position([deal(1, 3, 1), deal(2, -1, "5", lots=(NamedLot("d1", UNIT),))]) is None
    # once the lot is gone its parts have added up to the whole, however they were rounded
    facts = [indivisible, deal(2, -1, "5"), deal(3, -1, "5"), deal(4, -2, "5")]
    answer = audit_position(facts)
    assert answer == reference_book(fold(facts))[KEY]
    assert answer is not None
    assert answer.realised36 == 5 * MONEY


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from((-1, 1)), st.integers(1, 9), st.integers(-99, 99))))
def test_the_algebra_holds_at_told_costs_wherever_it_answers(rows: list) -> None:
    deals = [
        Deal(KEY, f"d{n}", instant(n), 0, n, sign * size, cost * 10**26, 5, bool(n % 2))
        for n, (sign, size, cost) in enumerate(rows)
    ]
    answer = audit_position(deals)
    if deals and answer is not None:
        assert answer == reference_book(fold(deals))[KEY]


def test_the_reference_is_light_to_import() -> None:
    code = (
        "import sys, projections, projections.positions.reference;"
        "print([name for name in ('numba', 'numpy') if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
