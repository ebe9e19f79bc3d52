"""Rate, errors and duration of requests, by route: never by account or by whole path."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

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
