"""Run the simulation from the command line: `python -m tests.streams.simulate SEED STEPS [RULE]`.

SEED is that of the first world, STEPS how many to take in all; RULE leaves a rule out. Exits with 1
where something that must hold does not, and prints the command that runs that world again.
"""

import argparse
import logging
import sys

from tests.streams.simulation.mutations import RULES
from tests.streams.simulation.run import command_line, simulate
from tests.streams.simulation.world import STEPS


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")


def main() -> int:
    """Run the worlds that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.streams.simulate")
    parser.add_argument("seed", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("rule", nargs="?", choices=RULES, help="the rule to leave out")
    told = parser.parse_args()
    logging.getLogger("streams").setLevel(logging.CRITICAL)
    tally = simulate(told.seed, told.steps, told.rule)
    say(
        f"{tally.steps} steps in {tally.worlds} worlds: {tally.events} events,"
        f" {tally.voids} void records, {tally.terms} terms, {tally.transfers} transfers,"
        f" {tally.damaged} damaged records, {tally.answers} answers"
    )
    for fault in tally.faults:
        say(f"seed {told.seed + tally.worlds - 1}: {fault}")
    if tally.faults:
        say(f"again: {command_line(told.seed + tally.worlds - 1, STEPS, told.rule)}")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
