"""What a worker tells Prometheus. Each name is explained in docs/reference/metrics.md."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_PROJECTION = ("projection", "topic", "partition")


class WorkerMetrics:
    """The metrics of one worker, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.records = Counter(
            "daybook_records_projected",
            "Records that a projection has gone past, void ones included.",
            ("projection",),
            registry=registry,
        )
        self.voids = Counter(
            "daybook_projection_void_records",
            "Records that do not count, as each projection came past them.",
            ("projection",),
            registry=registry,
        )
        self.rows = Counter(
            "daybook_rows_written",
            "Rows of read models inserted, changed or deleted.",
            ("projection",),
            registry=registry,
        )
        self.step_seconds = Histogram(
            "daybook_projecting_seconds",
            "Time to read, fold and commit one batch of a partition.",
            ("topic",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self.lag_events = Gauge(
            "daybook_projection_lag_events",
            "Records of the partition that the projection has not gone past.",
            _PROJECTION,
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "daybook_projection_lag_seconds",
            "Age of the first record that the projection has not gone past; 0 at the head.",
            _PROJECTION,
            registry=registry,
        )
        self.checkpoint_age = Gauge(
            "daybook_checkpoint_age_seconds",
            "Time since this worker last moved the projection's checkpoint, or was given it.",
            _PROJECTION,
            registry=registry,
        )
        self.partitions = Gauge(
            "daybook_assigned_partitions",
            "Partitions that this worker projects.",
            ("topic",),
            registry=registry,
        )
        self.halted = Gauge(
            "daybook_halted_partitions",
            "Assigned partitions that stand still until a person parks a record.",
            ("topic",),
            registry=registry,
        )
        self.failed = Gauge(
            "daybook_failed_projections",
            "Assigned partitions in which the projection's fold has failed.",
            ("projection",),
            registry=registry,
        )
        self.moved = Counter(
            "daybook_checkpoints_moved",
            "Batches thrown away because another worker had projected them.",
            ("topic",),
            registry=registry,
        )
        self.waiting = Gauge(
            "daybook_waiting_for_servers",
            "1 while the log or the store cannot be used and is being tried again.",
            registry=registry,
        )
