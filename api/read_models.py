"""Every read model that can be asked for, by name: adding one is its view and a line here."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from api import views
from api.marks import POSITION_COLUMNS
from api.questions import Asker
from api.views import BALANCE_COLUMNS, Kind, Shown, View, show, show_balances
from projections.positions.tables import POSITIONS
from projections.rows import Table


class ReadModel(Struct, frozen=True):
    """A read model as it is asked for.

    `rows` are in the order of `key`, which is made of attributes of a row; `show` gives them the
    names and forms that everybody sees. `table` is where they are stored as they are now, None
    where they are summed up when asked for; `view` how its columns are shown, None where more
    than the table goes into them.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, Kind], ...]
    rows: Callable[[Asker], Sequence[Any]]
    show: Callable[[Asker, Sequence[Any]], Shown]
    table: Table | None = None
    view: View | None = None

    def ask(self, asker: Asker) -> Shown:
        """Return the whole answer."""
        return self.show(asker, self.rows(asker))


def _viewed(view: View, rows: Callable[[Asker], Sequence[Any]]) -> ReadModel:
    table = view.table
    return ReadModel(
        table.name,
        table.key,
        tuple((column.name, column.kind) for column in view.columns),
        rows,
        lambda _asker, shown: show(view, shown),
        table,
        view,
    )


def _events(view: View) -> ReadModel:
    return _viewed(view, lambda asker: asker.events_rows(view))


def _dated(view: View) -> ReadModel:
    return _viewed(view, lambda asker: asker.dated_rows(view))


_ALL: Final = (
    _events(views.ACCOUNTS_VIEW),
    _events(views.ORDERS_VIEW),
    _dated(views.DEALS_VIEW),
    _dated(views.CASH_VIEW),
    _dated(views.MOVEMENTS_VIEW),
    ReadModel(
        "balances",
        ("account", "currency"),
        BALANCE_COLUMNS,
        Asker.balance_rows,
        lambda _asker, rows: show_balances(rows),
    ),
    ReadModel(
        "positions",
        POSITIONS.key,
        POSITION_COLUMNS,
        Asker.position_rows,
        Asker.show_positions,
        POSITIONS,
    ),
    _viewed(views.LOTS_VIEW, Asker.lot_rows),
    _viewed(views.INSTRUMENTS_VIEW, Asker.instrument_rows),
    _viewed(views.PRICES_VIEW, Asker.price_rows),
)

READ_MODELS: Final = {model.name: model for model in _ALL}
