"""How long whole processes take, from start to end, as a shell sees them.

Beside them an interpreter that does nothing. Bytecode is compiled before anything is timed, as it
is after the first use of an installation.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from api.wiring import running
from benchmarks.books import import_deals, write_deals
from benchmarks.rows import Row, median_seconds
from infra.embedded import embedded_server
from infra.settings import load_settings

RUNS: Final = 10
_DEALS: Final = 1_000
_DAYBOOK: Final = (sys.executable, "-m", "api.cli.main")


def main(*, full: bool = False) -> list[Row]:
    """Measure the help, and a query on a home whose server is down, then on one where it is up."""
    runs = RUNS * 3 if full else RUNS
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as folder:
        home = Path(folder)
        _fill(home)
        query = (*_DAYBOOK, "positions", "--home", folder, "--account", "A00001")
        _run(query)
        nothing = _milliseconds((sys.executable, "-c", "pass"), runs)
        measured = [
            ("daybook --help", 300.0, _milliseconds((*_DAYBOOK, "--help"), runs)),
            ("a query, server down", 1_500.0, _milliseconds(query, runs)),
        ]
        with embedded_server(home):
            measured.append(("a query, server up", 400.0, _milliseconds(query, runs)))
    return [
        Row(
            what=f"{what}, whole process, median of {runs}",
            unit="ms",
            ours=ours,
            beside="python -c pass",
            other=nothing,
            target=target,
        )
        for what, target, ours in measured
    ]


def _fill(home: Path) -> None:
    """Import a small book and project it, so that a query finds something."""
    with running(load_settings(home, environ={}, folder=home)) as parts:
        path = home / "deals.csv"
        write_deals(path, _DEALS)
        import_deals(parts, path, _DEALS)
        parts.projector.catch_up()


def _milliseconds(command: tuple[str, ...], runs: int) -> float:
    return median_seconds(lambda: _run(command), runs) * 1e3


def _run(command: tuple[str, ...]) -> None:
    environment = {name: told for name, told in os.environ.items() if name not in _UNWANTED}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


_UNWANTED: Final = ("PYTHONDONTWRITEBYTECODE", "DAYBOOK_HOME", "DAYBOOK_LOG_URL")
