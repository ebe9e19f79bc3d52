"""Waiting for something to hold, for as long as that may take on a busy machine, and no longer."""

import time
from collections.abc import Callable

PATIENCE_S = 120.0


def until(
    holds: Callable[[], object], why: Callable[[], object] = str, patience_s: float = PATIENCE_S
) -> None:
    """Wait until something holds; fail, with what `why` returns, after two minutes."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"waited for {patience_s:g} s: {why()}"
        time.sleep(0.02)
