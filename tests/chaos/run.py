"""A run: everything started, commands under load, mishaps, everything let run, and the checks."""

import contextlib
import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from domain.events import TransferSent
from projections.registry import PROJECTIONS
from streams.deciding.front import KafkaLedger
from streams.kafka_log import KafkaLog
from streams.read_models import ReadModels
from tests.chaos import checks
from tests.chaos.cluster import Cluster
from tests.chaos.load import Asker, Clerk, Looker, Memory, Told
from tests.chaos.mischief import Budget, Mishap, harm_links, harm_programs, harm_servers
from tests.chaos.programs import Program
from tests.chaos.reaper import Reaper
from tests.chaos.report import Report, counted
from tests.servers import lend_jars

PROGRAMS: Final = {
    "decider-1": ["decider"],
    "decider-2": ["decider"],
    "worker-1": ["worker"],
    "worker-2": ["worker"],
}
ASKER: Final = "asker"
_PATIENCE_S: Final = 300.0
_LOOK_S: Final = 0.2
_PARTITIONS: Final = 16


class Plan(Struct, frozen=True):
    """What to do: how many mishaps, how many askers, and how long each pauses on average.

    `limit_s` is after how long there are no more mishaps, however many there were. Before so many
    commands were accepted as `least_accepted`, the askers go on.
    """

    kills: int
    seed: int = 0
    limit_s: float = math.inf
    askers: int = 4
    pause_s: float = 0.1
    least_accepted: int = 0


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class Run:
    """The parts of a run, once they are started."""

    def __init__(self, plan: Plan, home: Path, reaper: Reaper, stack: contextlib.ExitStack) -> None:
        self.plan = plan
        self.cluster = Cluster(home, [*PROGRAMS, ASKER])
        stack.callback(self.cluster.close)
        say("starting three brokers, Postgres and Redis")
        self.cluster.start()
        straight = self.cluster.settings(None)
        log = KafkaLog.open(straight["DAYBOOK_LOG_URL"], partitions=_PARTITIONS)
        log.close()
        say("starting two deciders and two workers")
        self.programs = [
            Program(name, arguments, self.cluster.settings(name), home, reaper)
            for name, arguments in PROGRAMS.items()
        ]
        for program in self.programs:
            stack.callback(program.kill)
            program.start()
        self.memory = Memory()
        self.log = KafkaLog.open(self.cluster.settings(ASKER)["DAYBOOK_LOG_URL"])
        stack.callback(self.log.close)
        self.ledger = KafkaLedger(self.log)
        stack.callback(self.ledger.close)
        settings = self.cluster.settings(ASKER)
        dsn, cache_url = settings["DAYBOOK_STORE_URL"], settings["DAYBOOK_CACHE_URL"]
        self.clerk = Clerk(self.ledger, self.log, dsn, self.memory)
        self.looker = Looker(plan.seed, self.log, dsn, cache_url, self.memory)
        for one in (self.clerk, self.looker):
            stack.callback(one.stop)
        self.askers = [
            Asker(number, plan.seed, self.ledger, self.memory, plan.pause_s)
            for number in range(plan.askers)
        ]

    def harm(self) -> Budget:
        """Ask, and let things go wrong, until enough went wrong and enough was accepted."""
        plan = self.plan
        for asker in (*self.askers, self.clerk):
            asker.start()
        if not self._let_run(lambda: bool(self.memory.told)):
            raise TimeoutError(f"nobody answered a command in {_PATIENCE_S:.0f} s")
        self._make_tables()
        self.looker.start()
        budget = Budget(plan.kills)
        hands = [
            Mishap("servers", plan.seed, harm_servers(self.cluster), budget),
            Mishap("programs", plan.seed, harm_programs(self.cluster, self.programs), budget),
            Mishap("links", plan.seed, harm_links(self.cluster), budget),
        ]
        for hand in hands:
            hand.start()
        told = 0
        deadline = time.monotonic() + plan.limit_s
        try:
            while any(hand.is_alive() for hand in hands):
                self._keep_running()
                if time.monotonic() > deadline:
                    budget.stop()
                done = sum(budget.by_kind.values())
                if done >= told + 10:
                    told = done
                    say(f"{done} of {plan.kills} mishaps; {len(self.memory.told)} answers")
                time.sleep(_LOOK_S)
        finally:
            budget.stop()
        for hand in hands:
            if hand.error is not None:
                raise hand.error
        self._let_run(lambda: self.memory.accepted() >= plan.least_accepted)
        return budget

    def _make_tables(self) -> None:
        """Make the tables of the read models, as any reader does who comes before a worker."""
        dsn = self.cluster.settings(None)["DAYBOOK_STORE_URL"]
        ReadModels(dsn, self.log.place.schema, self.log.log_id, PROJECTIONS).close()

    def _let_run(self, holds: Callable[[], bool]) -> bool:
        """Let all run until something holds; tell whether it does, after five minutes at most."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (is_met := holds()) and time.monotonic() < deadline:
            self._keep_running()
            time.sleep(_LOOK_S)
        return is_met

    def _keep_running(self) -> None:
        """Start again what ended by itself, as whoever runs services does."""
        for program in self.programs:
            if program.ended_by_itself():
                say(f"{program.name} ended by itself, status {program.endings[-1]}")
                program.start()

    def rest(self) -> list[str]:
        """Let everything run, until what is open is answered and settled; return what is not."""
        self.cluster.heal_all()
        self.cluster.start_servers()
        for program in self.programs:
            program.resume()
            program.start()
        for asker in self.askers:
            asker.stop()
        self._let_run(lambda: not any(asker.is_alive() for asker in self.askers))
        unanswered = [one.command_id for asked in self.memory.open.values() for one in asked]
        with contextlib.closing(self.open_log()) as log:
            # It alone knows all of them: an owner that is new may not have read them back yet.
            self._let_run(lambda: not checks.transfers_open(checks.read_books(log)))
        self.clerk.stop()
        self.clerk.join(_PATIENCE_S)
        violations = [f"{name} was never answered" for name in unanswered]
        return violations + (["the clerk did not end"] if self.clerk.is_alive() else [])

    def open_log(self) -> KafkaLog:
        """Open the log, past all links."""
        return KafkaLog.open(self.cluster.settings(None)["DAYBOOK_LOG_URL"])


def execute(plan: Plan, home: Path, kept: Path) -> Report:
    """Make a run in `home`, with Kafka's jars from `kept`; leaves nothing running, whatever comes.

    Raises ProgramsMissing where the servers cannot be started here.
    """
    home.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        reaper = Reaper(home)
        stack.callback(reaper.close)
        lend_jars(home, kept)
        began = time.monotonic()
        run = Run(plan, home, reaper, stack)
        budget = run.harm()
        say("no more mishaps: everything is let run")
        violations = run.rest()
        return _report(run, budget, violations, began)


def _report(run: Run, budget: Budget, violations: list[str], began: float) -> Report:
    say("checking")
    with contextlib.closing(run.open_log()) as log:
        books = checks.read_books(log)
        told = run.memory.told
        violations += checks.log_violations(books, told)
        violations += checks.lacking_violations(books, told)
        violations += checks.transfers_open(books)
        settings = run.cluster.settings(None)
        models = checks.look_at_models(
            log,
            settings["DAYBOOK_STORE_URL"],
            settings["DAYBOOK_CACHE_URL"],
            run.looker,
            _PATIENCE_S,
        )
        violations += models.violations
    return Report(
        seed=run.plan.seed,
        seconds=time.monotonic() - began,
        mishaps=sum(budget.by_kind.values()),
        mishaps_by_kind=counted(budget.by_kind),
        commands=len({(one.request.key, one.request.command_id) for one in told}),
        answers=len(told),
        answers_by_status=counted(Counter(_status(one) for one in told)),
        asked_in_vain=counted(run.memory.failures),
        longest_pause_s=run.memory.longest_pause_s,
        records=len(books.at),
        void_records=books.voids,
        terms=books.terms,
        transfers=sum(isinstance(one.event, TransferSent) for one in books.at.values()),
        copied_accounts=models.copied,
        ended_by_themselves={one.name: one.endings for one in run.programs if one.endings},
        violations=checks.shown(violations),
    )


def _status(told: Told) -> str:
    answer = told.answer
    if answer.status == "lacking":
        return f"lacking: {answer.reason}"
    return f"{answer.status}, replayed" if answer.replayed else answer.status
