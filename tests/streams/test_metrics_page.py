"""Every metric is explained on its page, and the page explains none that is not there."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from api.http.feed.metrics import Counts, FeedMetrics
from api.http.metrics import Metrics
from streams.deciding.metrics import DeciderMetrics
from streams.working.metrics import WorkerMetrics

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def test_the_page_names_the_metrics_that_there_are() -> None:
    registries = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    DeciderMetrics(registries[0])
    WorkerMetrics(registries[1])
    Metrics(registries[2])
    registries[2].register(FeedMetrics((), Counts()))
    names = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for registry in registries
        for metric in registry.collect()
    }
    assert set(re.findall(r"`(daybook_\w+)`", _PAGE.read_text())) == names
