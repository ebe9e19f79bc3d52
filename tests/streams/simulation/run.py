"""Worlds, one seed after the other: what they came to, and the first that went wrong."""

from typing import Final

from msgspec import Struct

from schemas.validity import Halt
from streams.log import LogError
from tests.streams.simulation.checks import faults, read_afresh
from tests.streams.simulation.mutations import left_out
from tests.streams.simulation.world import SIZES, STEPS, Fault, World

_SHOWN: Final = 5


class Tally(Struct):
    """What worlds came to; `faults` are those of the last one."""

    steps: int = 0
    worlds: int = 0
    events: int = 0
    voids: int = 0
    terms: int = 0
    damaged: int = 0
    transfers: int = 0
    answers: int = 0
    faults: list[str] = []


def simulate(seed: int, steps: int, rule: str | None = None) -> Tally:
    """Run a world for each few thousand steps, from a seed on; stop at the first with a fault.

    `rule` is left out. The last world takes the steps that are left, so that one step more is one
    step more of the same world.
    """
    tally = Tally()
    while tally.steps < steps and not tally.faults:
        taken = min(STEPS, steps - tally.steps)
        with left_out(rule or ""):
            tally.faults = _run(seed + tally.worlds, taken, rule, tally)
        tally.steps += taken
        tally.worlds += 1
    return tally


def _run(seed: int, steps: int, rule: str | None, tally: Tally) -> list[str]:
    world = World(seed, SIZES[seed % len(SIZES)], frozenset({rule} if rule else ()))
    try:
        world.run(steps)
        fresh = read_afresh(world)
        found = list(faults(world, fresh))
    except (Fault, Halt, LogError, AssertionError) as fault:
        return [f"{type(fault).__name__}: {fault}"]
    for one in fresh:
        tally.events += len(one.events)
        tally.voids += one.voids
        tally.terms += one.state.term
        tally.transfers += sum(one.envelope.type == "TransferSent" for one in one.events)
    tally.damaged += sum(map(len, world.vandal.damaged))
    tally.answers += sum(map(len, world.answers.values()))
    return found[:_SHOWN]


def command_line(seed: int, steps: int, rule: str | None = None) -> str:
    """Return the command that runs a world again."""
    return f"python -m tests.streams.simulate {seed} {steps} {rule or ''}".rstrip()
