"""Faust's traps, for which the worker is made as it is; that it escapes them: test_worker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.streams.kafka_homes import forget, new_home

_CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cases(kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What came of each case."""
    home = new_home(kafka_bootstrap)
    command = [sys.executable, "-m", "tests.streams.faust_traps", home.hosts, home.namespace]
    told = subprocess.run(
        command,
        # Faust makes folders where it runs.
        cwd=tmp_path_factory.mktemp("faust"),
        env={**os.environ, "PYTHONPATH": str(_CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert told.returncode == 0, told.stderr
    yield json.loads(told.stdout)
    forget(home)


def test_take_loses_the_batch_whose_handler_raised(cases: Any) -> None:
    told = cases["take_that_raises"]
    assert len(told["missing"]) > 1
    assert 50 in told["missing"]
    assert told["committed"] == 100


def test_iteration_loses_the_event_whose_handler_raised(cases: Any) -> None:
    assert cases["iteration_that_raises"]["missing"] == [50]
    assert cases["iteration_that_raises"]["committed"] == 100


def test_one_event_never_acknowledged_does_not_hold_back_the_commit(cases: Any) -> None:
    assert cases["one_never_acknowledged"]["missing"] == [0]
    assert cases["one_never_acknowledged"]["committed"] == 100


def test_a_seek_when_partitions_are_assigned_is_undone(cases: Any) -> None:
    assert cases["seek_when_assigned"]["first"] == 80
