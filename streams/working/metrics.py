"""What a worker tells Prometheus. Each name is explained in docs/reference/metrics.md."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_TIMES: Final = partial(Histogram, buckets=_BUCKETS)
_PROJECTION: Final = ("projection",)
_TOPIC: Final = ("topic",)
_EACH: Final = ("projection", "topic", "partition")

_TABLE: Final[dict[str, tuple[Callable[..., Any], str, tuple[str, ...], str]]] = {
    "records": (
        *(Counter, "records_projected", _PROJECTION),
        "Records that a projection has gone past, void ones included.",
    ),
    "voids": (
        *(Counter, "projection_void_records", _PROJECTION),
        "Records that do not count, as each projection came past them.",
    ),
    "rows": (
        *(Counter, "rows_written", _PROJECTION),
        "Rows of read models inserted, changed or deleted.",
    ),
    "step_seconds": (
        *(_TIMES, "projecting_seconds", _TOPIC),
        "Time to read, fold and commit one batch of a partition.",
    ),
    "lag_events": (
        *(Gauge, "projection_lag_events", _EACH),
        "Records of the partition that the projection has not gone past.",
    ),
    "lag_seconds": (
        *(Gauge, "projection_lag_seconds", _EACH),
        "Age of the first record that the projection has not gone past; 0 at the head.",
    ),
    "checkpoint_age": (
        *(Gauge, "checkpoint_age_seconds", _EACH),
        "Time since this worker last moved the projection's checkpoint, or was given it.",
    ),
    "partitions": (
        *(Gauge, "assigned_partitions", _TOPIC),
        "Partitions that this worker projects.",
    ),
    "halted": (
        *(Gauge, "halted_partitions", _TOPIC),
        "Assigned partitions that stand still until a person parks a record.",
    ),
    "failed": (
        *(Gauge, "failed_projections", _PROJECTION),
        "Assigned partitions in which the projection's fold has failed.",
    ),
    "moved": (
        *(Counter, "checkpoints_moved", _TOPIC),
        "Batches thrown away because another worker had projected them.",
    ),
    "waiting": (
        *(Gauge, "waiting_for_servers", ()),
        "1 while the log or the store cannot be used and is being tried again.",
    ),
}


class WorkerMetrics:
    """The metrics of one worker, in one registry."""

    records: Counter
    voids: Counter
    rows: Counter
    step_seconds: Histogram
    lag_events: Gauge
    lag_seconds: Gauge
    checkpoint_age: Gauge
    partitions: Gauge
    halted: Gauge
    failed: Gauge
    moved: Counter
    waiting: Gauge

    def __init__(self, registry: CollectorRegistry) -> None:
        for attribute, (make, name, labels, what) in _TABLE.items():
            setattr(self, attribute, make(f"daybook_{name}", what, labels, registry=registry))
