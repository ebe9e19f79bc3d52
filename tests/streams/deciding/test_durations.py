"""Many durations taken at once are told as Prometheus' own histogram tells each."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from streams.deciding.metrics import DeciderMetrics

# An exact bound is below itself: `le`.
seconds = st.sampled_from([0.0, 0.0002, 0.001, 0.0011, 30.0, 31.0]) | st.integers(0, 99)


@given(st.lists(st.lists(seconds, max_size=5), max_size=5))
def test_as_the_histogram_next_to_it(batches: list[list[float]]) -> None:
    registry = CollectorRegistry()
    metrics = DeciderMetrics(registry)
    for batch in batches:
        metrics.answer.observe_all(batch)
        for one in batch:
            metrics.append.observe(one)
    ours, theirs = (samples(registry, name) for name in ("command_answer", "append"))
    assert ours == theirs


def samples(registry: CollectorRegistry, name: str) -> dict[tuple[str, str], float]:
    """Return what a histogram tells, by kind of sample and bound."""
    prefix = f"daybook_{name}_seconds"
    return {
        (one.name.removeprefix(prefix), one.labels.get("le", "")): one.value
        for metric in registry.collect()
        for one in metric.samples
        if one.name.startswith(prefix) and not one.name.endswith("_created")
    }
