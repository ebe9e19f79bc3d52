"""Which portfolios each account is in, for principals who were given portfolios."""

import time
from collections import OrderedDict
from typing import Final

from psycopg import sql

from api.http.readers import Readers
from api.wiring import Parts
from domain.identifiers import is_id
from projections.accounts.fold import ACCOUNTS
from projections.instruments.parents import HOLDS_TODAY

_TRUSTED_S: Final = 1.0
"""For how long an answer is used again: so long an account that was moved may still be seen."""
_REMEMBERED: Final = 65_536
_QUERY: Final = sql.SQL(
    "WITH RECURSIVE above (portfolio) AS ("
    ' SELECT portfolio COLLATE "C" FROM {accounts} WHERE account = %s AND portfolio IS NOT NULL'
    " UNION SELECT t.parent FROM portfolios t JOIN above USING (portfolio)"
    " WHERE t.parent IS NOT NULL AND {holds})"
    " SELECT portfolio FROM above"
).format(accounts=sql.Identifier(ACCOUNTS.name), holds=sql.SQL(HOLDS_TODAY))
_ABOVE: Final = sql.SQL(
    'WITH RECURSIVE above (portfolio) AS (SELECT %s::text COLLATE "C"'
    " UNION SELECT t.parent FROM portfolios t JOIN above USING (portfolio)"
    " WHERE t.parent IS NOT NULL AND {holds})"
    " SELECT portfolio FROM above"
).format(holds=sql.SQL(HOLDS_TODAY))

_BELOW: Final = sql.SQL(
    'WITH RECURSIVE below (portfolio) AS (SELECT unnest(%s::text[]) COLLATE "C"'
    " UNION SELECT t.portfolio FROM portfolios t JOIN below b ON t.parent = b.portfolio"
    " WHERE {holds})"
    " SELECT portfolio, NULL AS account FROM below"
    " UNION ALL SELECT a.portfolio, a.account FROM {accounts} a JOIN below USING (portfolio)"
).format(accounts=sql.Identifier(ACCOUNTS.name), holds=sql.SQL(HOLDS_TODAY))


class Directory:
    """Looks up the portfolios of accounts, and remembers them for a moment."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._known: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    def portfolios_of(self, account: str) -> frozenset[str]:
        """Return the portfolios an account was last found in, those above included."""
        found = self._known.get(account)
        return frozenset() if found is None else found[1]

    def has_just_learnt(self, account: str) -> bool:
        """Tell whether an account was looked up so lately that the answer is used again."""
        found = self._known.get(account)
        return found is not None and found[0] > time.monotonic()

    async def learn(self, account: str) -> None:
        """Look an account up; what cannot be an id is in no portfolio."""
        if not is_id(account):
            return
        until = time.monotonic() + _TRUSTED_S
        portfolios = await self._readers.run(lambda parts: _portfolios(parts, account))
        self._known[account] = (until, portfolios)
        self._known.move_to_end(account)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    async def above(self, portfolio: str) -> frozenset[str]:
        """Return a portfolio and those it lies below."""
        return await self._readers.run(lambda parts: _rows(parts, _ABOVE, portfolio))

    async def below(self, portfolios: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Return portfolios with those that lie below them, and the accounts in any of these."""
        return await self._readers.run(lambda parts: _below(parts, portfolios))


def _portfolios(parts: Parts, account: str) -> frozenset[str]:
    return _rows(parts, _QUERY, account)


def _below(parts: Parts, names: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    rows = parts.models.connection.execute(_BELOW, (sorted(names),)).fetchall()
    portfolios = frozenset(portfolio for portfolio, account in rows if account is None)
    return portfolios, frozenset(account for _, account in rows if account is not None)


def _rows(parts: Parts, query: sql.Composed, name: str) -> frozenset[str]:
    rows = parts.models.connection.execute(query, (name,)).fetchall()
    return frozenset(portfolio for (portfolio,) in rows)


def account_exists(parts: Parts, account: str) -> bool:
    """Tell whether the read models know an account."""
    row = parts.models.connection.execute(
        "SELECT 1 FROM accounts WHERE account = %s", (account,)
    ).fetchone()
    return row is not None


def portfolio_exists(parts: Parts, portfolio: str) -> bool:
    """Tell whether a portfolio was defined, or an account is in one of that name."""
    row = parts.models.connection.execute(
        "SELECT 1 FROM portfolios WHERE portfolio = %(name)s OR parent = %(name)s"
        " UNION ALL SELECT 1 FROM accounts WHERE portfolio = %(name)s LIMIT 1",
        {"name": portfolio},
    ).fetchone()
    return row is not None
