"""Rate, errors and duration of requests, by route: never by account or by whole path."""

import logging
import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_log = logging.getLogger(__name__)
_TOLD_EVERY_S: Final = 1.0

_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counters of one server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "daybook_http_requests",
            "Requests answered, by route and status.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "daybook_http_request_seconds",
            "How long requests took, by route.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self.under_way = Gauge(
            "daybook_http_requests_under_way", "Requests being answered.", registry=registry
        )
        self.lag = Gauge(
            "daybook_projection_lag",
            "Records that a projection has not read, over all partitions.",
            ("projection",),
            registry=registry,
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, method: str, route: str, status: int, taken_s: float) -> None:
        """Count a request that was answered. To find its counters takes longest: they are kept."""
        known = self._known.get((method, route, status))
        if known is None:
            known = (
                self.requests.labels(method, route, str(status)),
                self.seconds.labels(method, route),
            )
            self._known[method, route, status] = known
        requests, seconds = known
        requests.inc()
        seconds.observe(taken_s)


class SlowLog:
    """Tells of one line a second: under load all requests are slow."""

    def __init__(self) -> None:
        self._told_at = float("-inf")
        self._untold = 0

    def tell(self, what: str) -> None:
        """Log a warning, unless one was logged a moment ago: then it is counted."""
        now = time.monotonic()
        if now - self._told_at < _TOLD_EVERY_S:
            self._untold += 1
            return
        _log.warning("%s; %d others since the last such line", what, self._untold)
        self._told_at, self._untold = now, 0
