"""Any history, fed to the folds in any batches, makes the rows that a fresh fold makes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from projections.registry import PROJECTIONS
from tests.projections.histories import HISTORIES, History, play
from tests.projections.row_store import fold_fresh, fold_in_batches, told

T = TypeVar("T")
CUTS = st.lists(st.integers(0, 45), max_size=8)


def cut(events: Sequence[T], cuts: Sequence[int]) -> list[list[T]]:
    places = [0, *sorted(place for place in cuts if place < len(events)), len(events)]
    return [list(events[a:b]) for a, b in pairwise(places)]


@given(HISTORIES, CUTS, st.sets(st.integers(0, 8)))
def test_rows_do_not_depend_on_batches(
    history: History, cuts: list[int], restarts: set[int]
) -> None:
    journal = play(history)
    for projection in PROJECTIONS:
        events = journal.events[projection.topic]
        store = fold_in_batches(projection, cut(events, cuts), restarts)
        fresh = fold_fresh(projection, events)
        for table in projection.tables:
            assert told(table, store.rows(table)) == told(table, fresh.rows(table))
