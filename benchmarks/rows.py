"""The lines of the benchmarks' tables: what was measured, beside what, and against which target."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from streams.ledger import program_version

RESULTS: Final = Path(__file__).parent / "results"


class Row(Struct, frozen=True, kw_only=True):
    """One figure beside another, both measured in this run.

    In a rate (`unit` ends in "/s") more is better, else less is. `other` is None where it could
    not run. `target` is what `ours` should reach, `target_ratio` what the ratio should.
    """

    what: str
    unit: str
    ours: float
    beside: str = ""
    other: float | None = None
    target: float | None = None
    target_ratio: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Return how many times better ours is, None where there is no other."""
        if self.other is None:
            return None
        better_is_more = self.unit.endswith("/s")
        return self.ours / self.other if better_is_more else self.other / self.ours

    @property
    def reached(self) -> bool | None:
        """Tell whether the targets were reached, None where there is none, or one went unjudged."""
        if self.target_ratio is not None and self.ratio is None:
            return None
        told = []
        if self.target is not None:
            better_is_more = self.unit.endswith("/s")
            told.append(self.ours >= self.target if better_is_more else self.ours <= self.target)
        if self.target_ratio is not None and self.ratio is not None:
            told.append(self.ratio >= self.target_ratio)
        return all(told) if told else None


def best_seconds(run: Callable[[], object], times: int = 3) -> float:
    """Return the best time of a few runs."""
    return min(_timed(run, times))


def median_seconds(run: Callable[[], object], times: int = 3) -> float:
    """Return the median time of a few runs."""
    return statistics.median(_timed(run, times))


def _timed(run: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken


def skipped(beside: str, module: str) -> None:
    """Say that an alternative is not installed."""
    print(f"skipped: {beside}: {module} is not installed (extra `bench`)")


def show(rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    print(f"{'':58}{'ours':>14}{'other':>14}{'ratio':>10}  target")
    for row in rows:
        other = "-" if row.other is None else _figure(row.other)
        ratio = "-" if row.ratio is None else f"{row.ratio:,.1f}"
        what = f"{row.what} [{row.unit}]"
        print(f"{what:58}{_figure(row.ours):>14}{other:>14}{ratio:>10}  {_targets(row)}")
        if row.beside:
            print(f"    beside: {row.beside}")
        if row.note:
            print(f"    {row.note}")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


def _targets(row: Row) -> str:
    told = []
    if row.target is not None:
        told.append(_figure(row.target))
    if row.target_ratio is not None:
        told.append(f"{row.target_ratio:,.0f} times")
    verdict = {True: "reached", False: "missed", None: ""}[row.reached]
    return ", ".join([*told, verdict]) if told else ""


def keep(name: str, rows: Sequence[Row]) -> Path:
    """Write rows as JSON, with what they were measured on, and return the file."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    told = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": program_version(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "rows": [
            {**msgspec.to_builtins(row), "ratio": row.ratio, "reached": row.reached} for row in rows
        ],
    }
    path.write_text(json.dumps(told, indent=2) + "\n")
    return path
