"""All rows of the read models, for comparing."""

from typing import Any

import msgspec
from psycopg import sql

from projections.rows import CHANGED_OFFSET
from streams.read_models import ReadModels

Tables = dict[str, list[dict[str, Any]]]


def all_rows(models: ReadModels) -> Tables:
    """Every table's rows by key, decimals with their scale, without where they changed last."""
    return {
        table.name: [
            {
                name: value
                for name, value in msgspec.to_builtins(row).items()
                if name != CHANGED_OFFSET
            }
            for row in models.scan(table, sql.SQL(""), ())
        ]
        for projection in models.projections
        for table in projection.tables
    }


def all_checkpoints(models: ReadModels) -> dict[tuple[str, int], tuple[int, int, str | None]]:
    """Where each projection stands: next offset, voids, why it is halted."""
    return {
        place: (one.next_offset, one.voids, one.halted)
        for place, one in models.checkpoints().items()
    }
