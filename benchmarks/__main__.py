"""Run the benchmarks: `python -m benchmarks [NAME] [--full]`."""

import argparse
import sys
from importlib import import_module
from typing import Final

from benchmarks.rows import keep, show

NAMES: Final = (
    "startup",
    "pre_trade",
    "fold_positions",
    "bulk_import",
    "feed",
    "catch_up",
    "as_of",
    "http_queries",
    "page",
    "pandas_frame",
    "kafka_commands",
    "kafka_catch_up",
    "live_rows",
)


def main() -> int:
    """Run one benchmark or all, print their tables and write them as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="one benchmark; else all")
    parser.add_argument("--full", action="store_true", help="at full size, where that takes long")
    told = parser.parse_args()
    for name in NAMES if told.name is None else (told.name,):
        print(f"== {name}", flush=True)
        module = import_module(f"benchmarks.{name}")
        rows = module.main(full=told.full)
        show(rows)
        print(f"-> {keep(name, rows)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
