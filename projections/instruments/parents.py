"""Which parent each portfolio has on a date: that of the latest row whose date has come.

A row without a date holds since ever.
"""

from collections.abc import Iterable
from typing import Final, LiteralString

from projections.instruments.fold import PortfolioRow

HOLDS_TODAY: Final[LiteralString] = (
    "t.from_date = (SELECT max(dated.from_date) FROM portfolios AS dated"
    " WHERE dated.portfolio = t.portfolio"
    " AND dated.from_date <= to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'))"
)
"""The condition on rows `t` of portfolios that they hold today, in UTC: `parents_on` in SQL."""


def parents_on(rows: Iterable[PortfolioRow], day: str) -> dict[str, str | None]:
    """Return the parent of each portfolio on a date; one that is not told of yet is absent."""
    dated = sorted((row for row in rows if row.from_date <= day), key=lambda row: row.from_date)
    return {row.portfolio: row.parent for row in dated}
