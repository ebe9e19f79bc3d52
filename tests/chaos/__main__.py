"""Kill, pause and cut off parts of a running ledger, and check its books afterwards.

`python -m tests.chaos --kills N [--seed S] [--minutes M] [--report FILE]`: the report goes to FILE
as text, and as JSON beside it. Exits with 1 where something that must hold does not, with 3 where
Kafka, Postgres or Redis cannot be started here.
"""

import argparse
import math
import random
import signal
import sys
import tempfile
from pathlib import Path

from infra.errors import ServerUnavailable
from tests.chaos.report import write_report
from tests.chaos.run import Plan, execute, say

_KEPT = Path(__file__).resolve().parents[2] / ".pytest_cache" / "d" / "kafka"


def main() -> int:
    """Make the run that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--kills", type=int, default=30, help="how many mishaps there are to be")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=math.inf, help="no mishaps after that")
    parser.add_argument("--report", type=Path, default=Path("chaos-report.txt"))
    parser.add_argument("--keep", type=Path, default=None, help="a folder to keep logs and data in")
    told = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if told.seed is None else told.seed
    say(f"seed {seed}")
    # Ending the run in any way ends its parts: by way out of here, or by the reaper.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="daybook-chaos-") as scratch:
        try:
            plan = Plan(told.kills, seed, told.minutes * 60)
            report = execute(plan, told.keep or Path(scratch, "home"), _KEPT)
        except ServerUnavailable as error:
            say(str(error))
            return 3
    write_report(report, told.report)
    sys.stdout.write(report.text())
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
