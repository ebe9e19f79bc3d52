"""Every metric is explained on its page, and the page explains none that is not there."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from streams.working.metrics import WorkerMetrics

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def test_the_page_names_the_metrics_of_a_worker() -> None:
    registry = CollectorRegistry()
    WorkerMetrics(registry)
    names = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in registry.collect()
    }
    section = _PAGE.read_text().partition("\n## Worker\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == names
