"""What the feed of a process does, for Prometheus.

Counted as plain numbers, on one event loop: a frame for a thousand clients is a thousand counts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Counts:
    """What all connections of a process have done since it started."""

    __slots__ = ("closed", "conflated", "frames", "reads")

    def __init__(self) -> None:
        self.frames = 0
        self.conflated = 0
        self.reads = 0
        self.closed: Counter[int] = Counter()


class Connected(Protocol):
    """A connection, as far as it is counted."""

    @property
    def subscriptions(self) -> Sized:
        """What it is subscribed to."""
        ...


class FeedMetrics(Collector):
    """Collects what is counted, and who is connected."""

    def __init__(self, connections: Iterable[Connected], counts: Counts) -> None:
        self._connections = connections
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Yield what there is now."""
        connected = list(self._connections)
        counts = self._counts
        yield GaugeMetricFamily(
            "daybook_feed_connections", "Clients of the feed.", value=len(connected)
        )
        yield GaugeMetricFamily(
            "daybook_feed_subscriptions",
            "Subscriptions of all clients.",
            value=sum(len(one.subscriptions) for one in connected),
        )
        yield CounterMetricFamily(
            "daybook_feed_frames", "Frames sent, heartbeats left out.", value=counts.frames
        )
        yield CounterMetricFamily(
            "daybook_feed_conflated",
            "Changes of subscriptions that went into a frame with the one before.",
            value=counts.conflated,
        )
        yield CounterMetricFamily(
            "daybook_feed_reads",
            "Reads for subscriptions that began, or were far behind.",
            value=counts.reads,
        )
        closed = CounterMetricFamily(
            "daybook_feed_closed", "Connections that the server closed.", labels=("code",)
        )
        for code, count in sorted(counts.closed.items()):
            closed.add_metric((str(code),), count)
        yield closed
