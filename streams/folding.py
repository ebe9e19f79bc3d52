"""Folds under way, one for each projection and partition, and the rows that they want.

Folds of several partitions ask for their rows together: live, a statement costs more than its rows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from projections.rows import Changed, Fold, Projection, Wanted

RowsOf = Callable[[Wanted], list[tuple[Any, ...]]]


class Work(Struct, frozen=True):
    """Events that a projection handles, in one partition from an offset on.

    They stay one list: folds know it again.
    """

    projection: Projection
    partition: int
    from_offset: int
    events: Sequence[Any]


class _Open(Struct, frozen=True):
    """Work with its fold."""

    work: Work
    fold: Fold


class Folds:
    """The folds of a projector, kept between batches.

    `fetch` returns rows that are wanted. `failed` is told of work whose fold failed: that fold is
    thrown away, and the others go on.
    """

    def __init__(self, fetch: RowsOf, failed: Callable[[Work, Exception], None]) -> None:
        self._fetch = fetch
        self._failed = failed
        self._kept: dict[tuple[str, int], Fold] = {}

    def forget(self, projection: Projection, partition: int) -> None:
        """Throw a fold away: what it has seen may not be what is stored."""
        self._kept.pop((projection.name, partition), None)

    def fold(self, works: Sequence[Work]) -> list[tuple[Work, Sequence[Changed]]]:
        """Fold events and return what changed, without the works whose folds failed."""
        folded = []
        for one in self._given([self._open(work) for work in works]):
            changed = self._guarded(one, _applied)
            if changed is not None:
                folded.append((one.work, changed))
        return folded

    def _open(self, work: Work) -> _Open:
        place = (work.projection.name, work.partition)
        fold = self._kept.get(place)
        if fold is None:
            fold = self._kept[place] = work.projection.make(fresh=False)
        return _Open(work, fold)

    def _given(self, opened: Sequence[_Open]) -> list[_Open]:
        """Give folds their rows until they want none; return those that did not fail."""
        failed: set[int] = set()
        asking = list(enumerate(opened))
        while asking:
            wishes: list[tuple[_Open, Wanted]] = []
            still = []
            for number, one in asking:
                wanted = self._guarded(one, _wanted)
                if wanted:
                    still.append((number, one))
                    if one.work.from_offset == 0:
                        # Nothing is stored of a partition that is at its beginning.
                        for each in wanted:
                            one.fold.give(each, ())
                    else:
                        wishes += [(one, each) for each in wanted]
                elif wanted is None:
                    failed.add(number)
            for one, each, rows in _fetched(self._fetch, wishes):
                one.fold.give(each, rows)
            asking = still
        return [one for number, one in enumerate(opened) if number not in failed]

    def _guarded(self, one: _Open, ask: Callable[[_Open], Sequence[Any]]) -> Sequence[Any] | None:
        """Return what a fold answers, None where it failed."""
        try:
            return ask(one)
        # Whatever a fold fails with is a fault of its own: it stands still, the others go on.
        except Exception as error:
            self.forget(one.work.projection, one.work.partition)
            self._failed(one.work, error)
            return None


def _wanted(one: _Open) -> Sequence[Wanted]:
    return one.fold.wants(one.work.events)


def _applied(one: _Open) -> Sequence[Changed]:
    one.fold.apply(one.work.events)
    return one.fold.changes()


def _fetched(
    fetch: RowsOf, asking: Sequence[tuple[_Open, Wanted]]
) -> Iterator[tuple[_Open, Wanted, list[tuple[Any, ...]]]]:
    """Yield with each wish its rows; wishes that differ in nothing but the values are one query."""
    alike: dict[tuple[str, tuple[str, ...], str], list[tuple[_Open, Wanted]]] = {}
    for one, wanted in asking:
        alike.setdefault((wanted.table.name, wanted.columns, wanted.only), []).append((one, wanted))
    for some in alike.values():
        _, first = some[0]
        values = list(dict.fromkeys(value for _, wanted in some for value in wanted.values))
        rows = fetch(Wanted(first.table, first.columns, values, first.only))
        if len(some) == 1:
            yield *some[0], rows
            continue
        places = [first.table.columns.index(name) for name in first.columns]
        found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for row in rows:
            found.setdefault(tuple([row[place] for place in places]), []).append(row)
        for one, wanted in some:
            yield one, wanted, [row for value in wanted.values for row in found.get(value, ())]
