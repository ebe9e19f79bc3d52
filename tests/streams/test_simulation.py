"""The distributed ledger under a seeded simulation, and what breaks without each of its rules.

Processes are paused, crash and come back; appends are lost, land late, or land twice; commands are
delivered again, answers are lost; clocks disagree; records are damaged, and parked by people. The
decider, the ownership of partitions, the readers and the projections are the real ones; only the
log and the read models' tables are lists. DAYBOOK_SIMULATION_STEPS says how many steps to take,
DAYBOOK_SIMULATION_SEED which seed to start from. A failure prints the command that runs its world
again.
"""

import logging
import os

import pytest

from domain.events import TermStarted
from schemas import codec
from tests.streams.simulation.mutations import RULES
from tests.streams.simulation.run import command_line, simulate
from tests.streams.simulation.world import SIZES, STEPS, World

PARTS = 10
ALL_STEPS = int(os.environ.get("DAYBOOK_SIMULATION_STEPS", "1000000"))
FIRST_SEED = int(os.environ.get("DAYBOOK_SIMULATION_SEED", "0"))
RARE = {"rising_terms": 5010, "stale_given_up": 40}
"""Seeds to start from where what a rule prevents is rare: one world in thirty, by luck none."""


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # Readers tell of each halt: here they are many, and made on purpose.
    caplog.set_level(logging.CRITICAL + 1, logger="streams")


@pytest.mark.timeout(1200)  # nothing waits here: it is work, and a busy machine takes longer
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_acknowledged_is_lost_and_nothing_applied_twice(part: int) -> None:
    steps = max(ALL_STEPS // PARTS, 1)
    first = FIRST_SEED + part * -(-steps // STEPS)
    tally = simulate(first, steps)
    again = command_line(first + tally.worlds - 1, STEPS)
    assert not tally.faults, f"{tally.faults}; again: {again}"
    if steps < 10 * STEPS:
        return
    # A simulation in which little happens proves little.
    assert tally.events > 100 * tally.worlds
    assert tally.answers > 100 * tally.worlds
    assert tally.voids > 10 * tally.worlds
    assert tally.terms > 10 * tally.worlds
    assert tally.transfers > 5 * tally.worlds
    assert tally.damaged > tally.worlds


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_needed(rule: str) -> None:
    tally = simulate(RARE.get(rule, FIRST_SEED), 150 * STEPS, rule)
    assert tally.faults, f"leaving out {rule} went unnoticed in {tally.worlds} worlds"


def test_a_world_is_the_same_every_time() -> None:
    worlds = [World(7, SIZES[0]) for _ in range(2)]
    for world in worlds:
        world.run(3000)
    first, second = (world.logs for world in worlds)
    assert first == second
    assert worlds[0].rng.getstate() == worlds[1].rng.getstate()
    assert any(
        isinstance(codec.decode(record).event, TermStarted)
        for record in first[0]
        if record.key is None and record.offset not in worlds[0].vandal.damaged[0]
    )
