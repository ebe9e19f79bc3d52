"""How far the read models are behind, as gauges."""

import contextlib
import time
from typing import Final

from domain.times import to_ns
from schemas.codec import Undecodable, envelope
from streams.log import Log, TopicPartition
from streams.projecting import Lag
from streams.working.keeping import Heads, Keeper
from streams.working.metrics import WorkerMetrics

_NS_PER_S: Final = 1_000_000_000


class LagGauges:
    """Sets the gauges of the partitions that a keeper is assigned."""

    def __init__(self, log: Log, keeper: Keeper, metrics: WorkerMetrics) -> None:
        self._source = log
        self._keeper = keeper
        self._metrics = metrics
        self._shown: set[tuple[str, str, str]] = set()
        self._since: dict[tuple[str, str, str], float] = {}
        self._lags: list[Lag] = []
        self._stood_since: dict[tuple[TopicPartition, int], float] = {}

    def measure(self, heads: Heads | None = None) -> None:
        """Ask the store where everything stands, and show it but for the ages.

        `heads` has where the log ended a moment ago; without it the log is asked. For the keeper's
        thread.
        """
        keeper, metrics = self._keeper, self._metrics
        status = keeper.projector.status(heads)
        lags = [one for one in status if (one.topic, one.partition) in keeper.assigned]
        for lag in lags:
            self._show(lag)
        self._lags = lags
        self._forget({_labels(lag) for lag in lags})
        for topic in {lag.topic for lag in lags}:
            here = [place for place in keeper.assigned if place[0] == topic]
            metrics.partitions.labels(topic).set(len(here))
            metrics.halted.labels(topic).set(sum(place in keeper.halted for place in here))
        for name in {lag.name for lag in lags}:
            failed = [
                lag
                for lag in lags
                if lag.name == name
                and lag.halted is not None
                and (lag.topic, lag.partition) not in keeper.halted
            ]
            metrics.failed.labels(name).set(len(failed))

    def measure_ages(self) -> None:
        """Show how old the first records are that projections had not gone past when last measured.

        Reads each of them from the log. For any thread: the keeper's has better to do.
        """
        ages: dict[tuple[TopicPartition, int], float] = {}
        for lag in self._lags:
            place: TopicPartition = (lag.topic, lag.partition)  # type: ignore[assignment]
            next_offset = lag.checkpoint + 1
            if lag.lag > 0 and (place, next_offset) not in ages:
                ages[place, next_offset] = self._age_seconds(place, next_offset)
            age = ages.get((place, next_offset), 0.0)
            self._metrics.lag_seconds.labels(*_labels(lag)).set(age)
        for record in self._stood_since.keys() - ages.keys():
            del self._stood_since[record]

    def _show(self, lag: Lag) -> None:
        labels = _labels(lag)
        # Records have come since it was asked where the log ends.
        self._metrics.lag_events.labels(*labels).set(max(0, lag.lag))
        since = self._since.setdefault(labels, time.monotonic())
        moved_at = max(self._keeper.moved_at.get((lag.name, lag.partition), 0.0), since)
        self._metrics.checkpoint_age.labels(*labels).set(time.monotonic() - moved_at)
        self._shown.add(labels)

    def _age_seconds(self, place: TopicPartition, offset: int) -> float:
        """Return how long ago a record was recorded, or first met where nobody can read it."""
        for record in self._source.read(*place, offset, 1):
            try:
                recorded_ns = to_ns(envelope(record.value).recorded_time)
            except (Undecodable, ValueError):
                now = time.monotonic()
                return now - self._stood_since.setdefault((place, offset), now)
            return max(0.0, (time.time_ns() - recorded_ns) / _NS_PER_S)
        return 0.0

    def _forget(self, there: set[tuple[str, str, str]]) -> None:
        metrics = self._metrics
        for labels in self._shown - there:
            for gauge in (metrics.lag_events, metrics.lag_seconds, metrics.checkpoint_age):
                with contextlib.suppress(KeyError):
                    gauge.remove(*labels)
            self._since.pop(labels, None)
        self._shown &= there


def _labels(lag: Lag) -> tuple[str, str, str]:
    return lag.name, lag.topic, str(lag.partition)
