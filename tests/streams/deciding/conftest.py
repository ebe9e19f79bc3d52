"""An embedded ledger, to compare with."""

from collections.abc import Iterator

import pytest

from streams.ledger import Ledger
from streams.postgres_log import PostgresLog


@pytest.fixture
def embedded_ledger(dsn: str, schema: str) -> Iterator[Ledger]:
    """A ledger over a fresh Postgres log."""
    log = PostgresLog.open(dsn, schema)
    ledger = Ledger(log)
    yield ledger
    ledger.close()
    log.close()
