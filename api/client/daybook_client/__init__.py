"""A client of the Daybook ledger: commands, tables, and feeds that never miss an update."""

from .client import AsyncClient, Client
from .errors import (
    Conflict,
    DaybookError,
    FeedGap,
    Forbidden,
    Invalid,
    NotFound,
    ProblemError,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
)
from .feed import Update
from .local import LocalTable
from .requests import Answer
from .tables import AsyncTable, Table

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncTable",
    "Client",
    "Conflict",
    "DaybookError",
    "FeedGap",
    "Forbidden",
    "Invalid",
    "LocalTable",
    "NotFound",
    "ProblemError",
    "RateLimited",
    "Refused",
    "Table",
    "Unauthenticated",
    "Unavailable",
    "Update",
]
