"""The one place that wires the parts together, by the URLs in the settings."""

import contextlib
from collections.abc import Iterator
from functools import cached_property

from infra.embedded import embedded_server
from infra.errors import ServerUnavailable
from infra.settings import ServerUrl, Settings
from projections.registry import PROJECTIONS
from streams.ledger import Ledger
from streams.past import Past
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import ReadModels
from streams.vault import Vault

SCHEMA = "daybook"


class Parts:
    """The parts of a running Daybook; each is made when it is first asked for."""

    def __init__(self, settings: Settings, log_dsn: str, store_dsn: str) -> None:
        self.settings = settings
        self._log_dsn = log_dsn
        self._store_dsn = store_dsn

    @cached_property
    def log(self) -> PostgresLog:
        """The log."""
        return PostgresLog.open(self._log_dsn, SCHEMA)

    @cached_property
    def ledger(self) -> Ledger:
        """What decides commands into the log."""
        return Ledger(self.log)

    @cached_property
    def models(self) -> ReadModels:
        """The read models' tables."""
        return ReadModels(self._store_dsn, SCHEMA, self.log.log_id, PROJECTIONS)

    @cached_property
    def projector(self) -> Projector:
        """What brings the read models to the log's head."""
        return Projector(self.log, self.models)

    @cached_property
    def past(self) -> Past:
        """What answers from the read models, now or as of a past time."""
        return Past(self.log, self.models)

    @cached_property
    def vault(self) -> Vault:
        """Where texts are that may have to be forgotten."""
        return Vault(self._store_dsn, SCHEMA)

    def close(self) -> None:
        """Close what was opened."""
        for name in ("ledger", "models", "vault", "log"):
            part = self.__dict__.get(name)
            if part is not None:
                part.close()


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Parts]:
    """Start what the settings ask for, and stop what was started for this process alone.

    Raises ServerUnavailable for a part that cannot be had.
    """
    with contextlib.ExitStack() as stack:
        log_dsn = _dsn(settings, settings.log_url, "the log", stack)
        store_dsn = (
            log_dsn
            if settings.store_url.text == settings.log_url.text
            else _dsn(settings, settings.store_url, "the read models' store", stack)
        )
        parts = Parts(settings, log_dsn, store_dsn)
        stack.callback(parts.close)
        yield parts


def _dsn(settings: Settings, url: ServerUrl, part: str, stack: contextlib.ExitStack) -> str:
    if url.scheme == "embedded":
        return stack.enter_context(embedded_server(settings.home))
    if url.scheme == "kafka":
        raise ServerUnavailable(
            part, "a log in Kafka is not there yet", "use embedded: or postgresql://..."
        )
    return url.text
