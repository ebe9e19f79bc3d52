"""What a decider tells Prometheus."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS: Final = (
    *(0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)


class Durations(Collector):
    """A histogram of seconds that takes many at once, for what there is one of each command.

    Written by one thread. Prometheus' own takes two locks for each, and a hundredth of the time
    that a command takes.
    """

    def __init__(self, name: str, what: str, registry: CollectorRegistry) -> None:
        self._name, self._what = name, what
        self._counts = [0] * (len(_SECONDS) + 1)
        self._sum_s = 0.0
        registry.register(self)

    def observe_all(self, seconds: Iterable[float]) -> None:
        """Take durations."""
        for one in seconds:
            self._counts[bisect_left(_SECONDS, one)] += 1
            self._sum_s += one

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as it stands."""
        bounds = [*map(str, _SECONDS), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        yield HistogramMetricFamily(self._name, self._what, buckets, self._sum_s)


class DeciderMetrics:
    """The metrics of one decider, in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def seconds(name: str, what: str) -> Histogram:
            return Histogram(f"daybook_{name}_seconds", what, registry=registry, buckets=_SECONDS)

        self.decide = seconds("decide", "Time to decide a batch.")
        self.append = seconds("append", "Time until a batch's append was acknowledged.")
        self.read_back = seconds("read_back", "Time from an append to its being read back.")
        self.answer = Durations(
            "daybook_command_answer_seconds",
            "Time from a command's arrival to its answer.",
            registry,
        )
        self.batch = Histogram(
            "daybook_decide_batch_commands",
            "Commands decided together.",
            registry=registry,
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        )
        self.commands = Counter(
            "daybook_commands", "Commands answered.", ["status"], registry=registry
        )
        self.dead_letters = Counter(
            "daybook_dead_letters", "Commands that can never be decided.", registry=registry
        )
        self.voids = Counter(
            "daybook_void_records", "Records that do not count.", ["topic"], registry=registry
        )
        self.terms = Counter("daybook_terms_started", "Partitions taken.", registry=registry)
        self.deposed = Counter("daybook_terms_lost", "Terms that others ended.", registry=registry)
        self.owned = Gauge(
            "daybook_owned_partitions", "Partitions of commands that are owned.", registry=registry
        )
        self.waiting = Gauge(
            "daybook_commands_waiting", "Commands that are not answered yet.", registry=registry
        )
        self.behind = Gauge(
            "daybook_decider_behind_records",
            "Records of the log that were not read yet.",
            registry=registry,
        )
        self.halted = Gauge(
            "daybook_decider_halted_partitions",
            "Partitions that stand still at a record.",
            registry=registry,
        )
