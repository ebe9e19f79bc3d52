"""What a run came to, for people and for programs."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct


class Report(Struct, kw_only=True):
    """The figures of one run. A run is clean when `violations` is empty."""

    seed: int
    seconds: float
    mishaps: int
    mishaps_by_kind: dict[str, int]
    commands: int
    answers: int
    answers_by_status: dict[str, int]
    asked_in_vain: dict[str, int]
    longest_pause_s: float
    records: int
    void_records: int
    terms: int
    transfers: int
    copied_accounts: int
    ended_by_themselves: dict[str, list[int]]
    violations: list[str]

    def text(self) -> str:
        """Return the report as lines to read."""
        lines = [
            f"seed {self.seed}: {self.mishaps} mishaps in {self.seconds:.0f} s",
            *_table(self.mishaps_by_kind),
            f"{self.commands} commands, {self.answers} answers",
            *_table(self.answers_by_status),
            f"longest pause in acknowledgement: {self.longest_pause_s:.1f} s",
            f"asked in vain: {sum(self.asked_in_vain.values())}",
            *_table(self.asked_in_vain),
            f"log: {self.records} events, {self.void_records} void records, {self.terms} terms",
            f"transfers: {self.transfers}",
            f"accounts with a copy in Redis: {self.copied_accounts}",
        ]
        for name, statuses in self.ended_by_themselves.items():
            lines.append(f"{name} ended by itself: {', '.join(map(str, statuses))}")
        lines.append(f"violations: {len(self.violations) or 'none'}")
        lines += [f"  {one}" for one in self.violations]
        return "\n".join(lines) + "\n"


def write_report(report: Report, path: Path) -> None:
    """Write a report as text to a file, and as JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report.text(), encoding="utf-8")
    path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def counted(counter: Counter[str]) -> dict[str, int]:
    """Return counts by name, in the order of the names."""
    return dict(sorted(counter.items()))


def _table(counts: Mapping[str, int]) -> list[str]:
    return [f"  {count:>8} {name}" for name, count in counts.items()]
