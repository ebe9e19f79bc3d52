"""What goes wrong: somebody is killed, stands still, or is cut off; and then recovers."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from tests.chaos.cluster import BROKERS, SERVERS, Cluster, Link
from tests.chaos.programs import Program
from tests.chaos.proxy import CUTS

_DEAD_S: Final = (0.0, 2.0)
_PAUSED_S: Final = (1.0, 9.0)
"""Longer than the sessions of the group: a paused owner comes back as one that was replaced."""
_CUT_S: Final = (0.5, 7.0)
_BETWEEN_S: Final = (0.5, 3.0)


class Mishap(threading.Thread):
    """One hand that does harm, time and again, to one of its victims at a time."""

    def __init__(
        self, name: str, seed: int, harm: Callable[[random.Random], str], budget: "Budget"
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._rng = random.Random(f"{seed} {name}")
        self._harm = harm
        self._budget = budget
        self.error: Exception | None = None

    def run(self) -> None:
        """Do harm until the budget is used up."""
        try:
            while self._budget.take():
                time.sleep(self._rng.uniform(*_BETWEEN_S))
                self._budget.done(self._harm(self._rng))
        except Exception as error:
            # It is told when the run looks: a harness that cannot restart a server proves nothing.
            self.error = error


class Budget:
    """How much harm is still to be done, and what was done by kind."""

    def __init__(self, kills: int) -> None:
        self.by_kind: Counter[str] = Counter()
        self._left = kills
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Take one, if there is one left."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def stop(self) -> None:
        """Leave nothing to be done."""
        with self._lock:
            self._left = 0

    def done(self, kind: str) -> None:
        """Note what was done."""
        with self._lock:
            self.by_kind[kind] += 1


def harm_servers(cluster: Cluster) -> Callable[[random.Random], str]:
    """Return what kills, pauses or cuts off a server."""

    def harm(rng: random.Random) -> str:
        server = rng.choice(SERVERS)
        kind = "broker" if server in BROKERS else server
        match rng.choice(("kill", "kill", "pause", "cut")):
            case "kill":
                cluster.kill(server)
                time.sleep(rng.uniform(*_DEAD_S))
                cluster.start_servers()
                return f"{kind} killed"
            case "pause":
                cluster.pause(server)
                try:
                    time.sleep(rng.uniform(*_PAUSED_S))
                finally:
                    cluster.resume(server)
                return f"{kind} paused"
            case _:
                links = [(client, server) for client in cluster.clients]
                return f"{kind} {_cut(cluster, links, rng)}"

    return harm


def harm_programs(cluster: Cluster, programs: Sequence[Program]) -> Callable[[random.Random], str]:
    """Return what kills, pauses or cuts off a process of the ledger."""

    def harm(rng: random.Random) -> str:
        program = rng.choice(programs)
        kind = program.name.partition("-")[0]
        match rng.choice(("kill", "kill", "pause", "cut")):
            case "kill":
                program.kill()
                time.sleep(rng.uniform(*_DEAD_S))
                program.start()
                return f"{kind} killed"
            case "pause":
                program.pause()
                try:
                    time.sleep(rng.uniform(*_PAUSED_S))
                finally:
                    program.resume()
                return f"{kind} paused"
            case _:
                links = [(program.name, server) for server in SERVERS]
                return f"{kind} {_cut(cluster, links, rng)}"

    return harm


def harm_links(cluster: Cluster) -> Callable[[random.Random], str]:
    """Return what cuts a process off from one of the servers."""

    def harm(rng: random.Random) -> str:
        link = rng.choice(cluster.clients), rng.choice(SERVERS)
        return f"link {_cut(cluster, [link], rng)}"

    return harm


def _cut(cluster: Cluster, links: Sequence[Link], rng: random.Random) -> str:
    way = rng.choice(CUTS)
    cluster.cut(links, way)
    try:
        time.sleep(rng.uniform(*_CUT_S))
    finally:
        cluster.heal(links)
    return way
