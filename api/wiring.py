"""The one place that wires the parts together, by the URLs in the settings."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, cast

from infra.embedded import embedded_server
from infra.settings import ServerUrl, Settings
from projections.registry import PROJECTIONS
from streams.ledger import Ledger
from streams.past import Past
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import ReadModels
from streams.transfers import PostgresBook, TransferBook
from streams.vault import Vault

if TYPE_CHECKING:
    from streams.deciding.front import KafkaLedger
    from streams.hot_copy import HotCopy
    from streams.kafka_log import KafkaLog
    from streams.news import NewsSource
    from streams.stream_index import IndexedLog
    from streams.working.waiting import WorkersProject

SCHEMA = "daybook"


class Parts:
    """The parts of a running Daybook; each is made when it is first asked for.

    `log_dsn` is the log's URL: with one of Kafka, commands are decided by `daybook decider`.
    """

    def __init__(self, settings: Settings, log_dsn: str, store_dsn: str) -> None:
        self.settings = settings
        self.is_distributed = log_dsn.startswith("kafka:")
        self.goes_back = False
        """Whether read models that a newer program made are made again as this one has them."""
        self._log_dsn = log_dsn
        self._store_dsn = store_dsn

    @cached_property
    def schema(self) -> str:
        """The schema of the read models: that of the log's namespace."""
        if not self.is_distributed:
            return SCHEMA
        from streams.kafka_client import parse_place

        return parse_place(self._log_dsn).schema

    @cached_property
    def namespace(self) -> str:
        """The log's namespace, which all names in Redis begin with."""
        if not self.is_distributed:
            return SCHEMA
        from streams.kafka_client import parse_place

        return parse_place(self._log_dsn).namespace

    @cached_property
    def log(self) -> "PostgresLog | KafkaLog":
        """The log."""
        if not self.is_distributed:
            return PostgresLog.open(self._log_dsn, SCHEMA)
        # Only who uses Kafka waits for its client to load.
        from streams.kafka_log import KafkaLog

        return KafkaLog.open(self._log_dsn)

    @cached_property
    def ledger(self) -> "Ledger | KafkaLedger":
        """What decides commands into the log, or has them decided."""
        log = self.log
        if isinstance(log, PostgresLog):
            return Ledger(log)
        from streams.deciding.front import KafkaLedger

        return KafkaLedger(log)

    @cached_property
    def models(self) -> ReadModels:
        """The read models' tables; those that another version made are rebuilt first."""
        from streams.rebuilding import open_read_models

        place = (self._store_dsn, self.schema, PROJECTIONS)
        if self.copy_url is None:
            return open_read_models(self.log, *place, goes_back=self.goes_back)
        from streams.hot_copy import CopiedReadModels

        models = open_read_models(self.log, *place, CopiedReadModels, goes_back=self.goes_back)
        models.copy = self.copy
        return models

    @property
    def copy_url(self) -> str | None:
        """The URL of the Redis that holds the hot copy; None where there is none."""
        url = self.settings.cache_url
        return url.text if url.scheme.startswith("redis") else None

    @cached_property
    def copy(self) -> "HotCopy | None":
        """The hot copy of positions, where there is a Redis."""
        if self.copy_url is None:
            return None
        from streams.hot_copy import HotCopy, generations

        log = self.log
        ours = generations(log.log_id, PROJECTIONS)
        return HotCopy.open(self.copy_url, self.namespace, ours, log.partitions)

    @cached_property
    def projector(self) -> "Projector | WorkersProject":
        """What brings the read models to the log's head, or waits until they are there."""
        if not self.is_distributed:
            return Projector(self.log, self.models)
        from streams.working.waiting import WorkersProject

        return WorkersProject(self.log, self.models)

    @cached_property
    def past(self) -> Past:
        """What answers from the read models, now or as of a past time."""
        return Past(self.streams, self.models)

    @cached_property
    def streams(self) -> "PostgresLog | IndexedLog":
        """The log as what reads single streams takes it: in Kafka by an index of its own."""
        log = self.log
        if isinstance(log, PostgresLog):
            return log
        from streams.stream_index import IndexedLog

        return IndexedLog(log, self._store_dsn, self.schema)

    @cached_property
    def news(self) -> "tuple[NewsSource, ...]":
        """Where it is heard that read models have changed: Postgres tells it, Redis too."""
        from streams.news import PostgresNews, RedisNews

        told: tuple[NewsSource, ...] = (PostgresNews(self._store_dsn, self.schema),)
        cache_url = self.settings.cache_url
        if cache_url.scheme.startswith("redis"):
            told = (*told, RedisNews(cache_url.text, self.namespace))
        return told

    @cached_property
    def vault(self) -> Vault:
        """Where texts are that may have to be forgotten."""
        return Vault(self._store_dsn, self.schema)

    @cached_property
    def book(self) -> PostgresBook:
        """Where a ledger on Postgres has its transfers."""
        return PostgresBook(cast("Ledger", self.ledger))

    @contextlib.contextmanager
    def transfers(self) -> Iterator[TransferBook]:
        """Yield where transfers on their way are found."""
        ledger = self.ledger
        if isinstance(ledger, Ledger):
            yield self.book
            return
        from streams.deciding.transfers import KafkaBook

        with KafkaBook.of(ledger, self._store_dsn, self.schema) as kafka_book:
            yield kafka_book

    def close(self) -> None:
        """Close what was opened, all of it whatever becomes of any."""
        with contextlib.ExitStack() as stack:
            for name in ("log", "streams", "vault", "copy", "models", "ledger", "book"):
                part = self.__dict__.get(name)
                if part is not None:
                    stack.callback(part.close)


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Parts]:
    """Start what the settings ask for, and stop what was started for this process alone.

    Raises ServerUnavailable for a part that cannot be had.
    """
    with contextlib.ExitStack() as stack:
        log_dsn = _dsn(settings, settings.log_url, stack)
        store_dsn = (
            log_dsn
            if settings.store_url.text == settings.log_url.text
            else _dsn(settings, settings.store_url, stack)
        )
        parts = Parts(settings, log_dsn, store_dsn)
        stack.callback(parts.close)
        yield parts


def _dsn(settings: Settings, url: ServerUrl, stack: contextlib.ExitStack) -> str:
    if url.scheme == "embedded":
        return stack.enter_context(embedded_server(settings.home))
    return url.text
