"""Tables: a question to a read model, and its answer as Arrow, pandas, polars or plain rows."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import httpx

from .requests import Call, Time, awaited, checked, driven, part, time_text
from .rows import Row, with_decimals

if TYPE_CHECKING:  # loaded when they are asked for
    import pandas  # type: ignore[import-untyped]
    import polars
    import pyarrow

ARROW: Final = "application/vnd.apache.arrow.stream"
PAGE_ROWS: Final = 10_000
_SEEN_ROWS: Final = 10_000


@dataclass(frozen=True)
class Query:
    """A question to one table."""

    table: str
    path: str
    params: Mapping[str, str]

    def arrow_call(self) -> Call:
        """Return the call that gets the whole table as an Arrow stream."""
        return Call("GET", self.path, self.params, {"Accept": ARROW})

    def page_call(self, cursor: str | None) -> Call:
        """Return the call that gets a page of rows as JSON."""
        paged = {**self.params, "limit": self.params.get("limit", str(PAGE_ROWS))}
        if cursor is not None:
            paged["cursor"] = cursor
        return Call("GET", self.path, paged, {"Accept": "application/json"})

    def pages(self) -> Generator[Call, httpx.Response, list[Row]]:
        """Ask for page after page; return the rows of all, with decimals as decimals."""
        rows: list[Row] = []
        cursor: str | None = None
        while True:
            told = checked((yield self.page_call(cursor))).json()
            rows += [with_decimals(self.table, row) for row in told["data"]]
            cursor = told["next"]
            if cursor is None:
                return rows


class Table:
    """The answer to a question, fetched when it is asked for in one of these forms."""

    def __init__(self, query: Query, send: Callable[[Call], httpx.Response]) -> None:
        self._query = query
        self._send = send

    def arrow(self) -> "pyarrow.Table":
        """Fetch the whole table as Arrow; decimals are decimal128, exact."""
        return _arrow(checked(self._send(self._query.arrow_call())))

    def pandas(self, *, decimals: bool = False) -> "pandas.DataFrame":
        """Fetch the whole table as a data frame: of Arrow types, or with Python's Decimal."""
        return _pandas(self.arrow(), decimals=decimals)

    def polars(self) -> "polars.DataFrame":
        """Fetch the whole table as a data frame of polars."""
        return _polars(self.arrow())

    def rows(self) -> list[Row]:
        """Fetch the whole table, page by page, as dictionaries; needs nothing installed."""
        return driven(self._query.pages(), self._send)


class AsyncTable:
    """As Table, to be awaited."""

    def __init__(self, query: Query, send: Callable[[Call], Awaitable[httpx.Response]]) -> None:
        self._query = query
        self._send = send

    async def arrow(self) -> "pyarrow.Table":
        """Fetch the whole table as Arrow; decimals are decimal128, exact."""
        return _arrow(checked(await self._send(self._query.arrow_call())))

    async def pandas(self, *, decimals: bool = False) -> "pandas.DataFrame":
        """Fetch the whole table as a data frame: of Arrow types, or with Python's Decimal."""
        return _pandas(await self.arrow(), decimals=decimals)

    async def polars(self) -> "polars.DataFrame":
        """Fetch the whole table as a data frame of polars."""
        return _polars(await self.arrow())

    async def rows(self) -> list[Row]:
        """Fetch the whole table, page by page, as dictionaries; needs nothing installed."""
        return await awaited(self._query.pages(), self._send)


def _arrow(response: httpx.Response) -> "pyarrow.Table":
    import pyarrow as pa

    return pa.ipc.open_stream(pa.py_buffer(response.content)).read_all()


def _pandas(table: "pyarrow.Table", *, decimals: bool) -> "pandas.DataFrame":
    import pandas as pd

    if not decimals:
        return table.to_pandas(types_mapper=pd.ArrowDtype)
    repeated = [name for name in table.column_names if _repeats(table[name])]
    frame = table.drop_columns(repeated).to_pandas()
    for name in repeated:
        frame.insert(table.column_names.index(name), name, _decimal_objects(table[name]))
    return frame


def _repeats(column: Any) -> bool:
    """Tell whether a column has the same few decimals again and again, as prices and fees do."""
    import pyarrow as pa

    if not pa.types.is_decimal(column.type):
        return False
    seen = column.slice(0, _SEEN_ROWS)
    return len(seen.unique()) * 2 < len(seen)


def _decimal_objects(column: Any) -> Any:
    """Return decimals as Python's, each value made once: making them is most of the work."""
    import numpy as np

    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_numpy(zero_copy_only=False)
    places = encoded.indices.fill_null(len(values)).to_numpy()
    return np.append(values, [None]).take(places)


def _polars(table: "pyarrow.Table") -> "polars.DataFrame":
    import polars as pl

    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


AnyTable = TypeVar("AnyTable")
Past = Time | date | None
"""A date, an instant, or None where it is not asked."""


class Tables(ABC, Generic[AnyTable]):
    """The read models.

    `as_of` asks what was true then, `known_at` what the ledger knew then: an instant, a date, or
    positions. `min_position` waits until a write of that position is in the answer.
    """

    @abstractmethod
    def _table(self, query: Query) -> AnyTable: ...

    def accounts(
        self, *, as_of: Past = None, known_at: Past = None, min_position: str | None = None
    ) -> AnyTable:
        """Ask for the accounts that may be seen."""
        return self._ask(
            "accounts",
            "/v1/accounts",
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )

    def positions(
        self,
        account: str | None = None,
        *,
        portfolio: str | None = None,
        instrument: str | None = None,
        as_of: Past = None,
        known_at: Past = None,
        method: str | None = None,
        open_only: bool = False,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for the positions of an account or of a portfolio; `method` asks what if."""
        if (account is None) == (portfolio is None):
            raise TypeError("positions are asked of an account or of a portfolio")
        owner = f"accounts/{part(account)}" if account else f"portfolios/{part(portfolio or '')}"
        return self._ask(
            "positions",
            f"/v1/{owner}/positions",
            instrument=instrument,
            as_of=as_of,
            known_at=known_at,
            method=method,
            open=open_only,
            min_position=min_position,
        )

    def lots(
        self,
        account: str,
        *,
        instrument: str | None = None,
        as_of: Past = None,
        known_at: Past = None,
        method: str | None = None,
        open_only: bool = False,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for the lots of an account."""
        return self._of_account(
            "lots",
            account,
            instrument=instrument,
            as_of=as_of,
            known_at=known_at,
            method=method,
            open=open_only,
            min_position=min_position,
        )

    def orders(
        self,
        account: str,
        *,
        since: Past = None,
        until: Past = None,
        instrument: str | None = None,
        as_of: Past = None,
        known_at: Past = None,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for orders; as for deals."""
        return self._of_account(
            "orders",
            account,
            from_=since,
            to=until,
            instrument=instrument,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )

    def deals(
        self,
        account: str,
        *,
        since: Past = None,
        until: Past = None,
        instrument: str | None = None,
        as_of: Past = None,
        known_at: Past = None,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for deals, one row a chain of corrections, from `since` up to `until` included."""
        return self._of_account(
            "deals",
            account,
            from_=since,
            to=until,
            instrument=instrument,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )

    def cash(
        self,
        account: str,
        *,
        since: Past = None,
        until: Past = None,
        instrument: str | None = None,
        as_of: Past = None,
        known_at: Past = None,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for the movements of cash that are no deals; as for deals."""
        return self._of_account(
            "cash",
            account,
            from_=since,
            to=until,
            instrument=instrument,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )

    def movements(
        self,
        account: str,
        *,
        since: Past = None,
        until: Past = None,
        instrument: str | None = None,
        as_of: Past = None,
        known_at: Past = None,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for the movements of units that are no deals; as for deals."""
        return self._of_account(
            "movements",
            account,
            from_=since,
            to=until,
            instrument=instrument,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )

    def balances(
        self,
        account: str,
        *,
        as_of: Past = None,
        known_at: Past = None,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for cash by currency, by trade date and settled."""
        return self._of_account(
            "balances", account, as_of=as_of, known_at=known_at, min_position=min_position
        )

    def instruments(
        self,
        *,
        instrument: str | None = None,
        as_of: Past = None,
        known_at: Past = None,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for the instruments as defined last."""
        return self._ask(
            "instruments",
            "/v1/instruments",
            instrument=instrument,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )

    def prices(
        self,
        *,
        instrument: str | None = None,
        since: Past = None,
        until: Past = None,
        as_of: Past = None,
        known_at: Past = None,
        min_position: str | None = None,
    ) -> AnyTable:
        """Ask for prices, revisions in the order they came."""
        return self._ask(
            "prices",
            "/v1/prices",
            instrument=instrument,
            from_=since,
            to=until,
            as_of=as_of,
            known_at=known_at,
            min_position=min_position,
        )

    def _ask(self, table: str, path: str, **told: "Past | bool") -> AnyTable:
        params: dict[str, str] = {}
        for name, value in told.items():
            if isinstance(value, bool):
                params |= {name: "true"} if value else {}
            elif (text := time_text(value)) is not None:
                params[name.rstrip("_")] = text
        return self._table(Query(table, path, params))

    def _of_account(self, table: str, account: str, **told: "Past | bool") -> AnyTable:
        return self._ask(table, f"/v1/accounts/{part(account)}/{table}", **told)
