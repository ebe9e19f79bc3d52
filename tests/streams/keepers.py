"""What a worker's one thread uses, without a worker, for tests to drive by hand."""

from prometheus_client import CollectorRegistry

from schemas.partitioning import partition_of
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, TopicPartition
from streams.read_models import ReadModels
from streams.working.keeping import Keeper
from streams.working.lag import LagGauges
from streams.working.metrics import WorkerMetrics
from tests.streams.kafka_history import PARTITIONS

EVERYWHERE: list[TopicPartition] = [(topic, n) for topic in TOPICS for n in range(PARTITIONS)]
POISONED = partition_of("A1", PARTITIONS)


class Kept:
    """A keeper with what it is measured by."""

    def __init__(self, log: KafkaLog, models: ReadModels) -> None:
        self.registry = CollectorRegistry()
        metrics = WorkerMetrics(self.registry)
        self.keeper = Keeper(log, models, metrics)
        self.gauges = LagGauges(log, self.keeper, metrics)

    def catch_up(self) -> None:
        """Look, and read what is due to its end."""
        self.keeper.look()
        while self.keeper.catch_up():
            pass

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over what the labels leave open."""
        self.gauges.measure()
        self.gauges.measure_ages()
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
