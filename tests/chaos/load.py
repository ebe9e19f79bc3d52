"""Commands under load, each asked until it is answered, and every answer remembered."""

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

import psycopg
from msgspec import Struct

from api.http.pages import EVER, page
from api.http.parameters import DEFAULT_LIMIT
from api.questions import Question
from api.read_models import READ_MODELS
from api.wiring import Parts
from domain.commands import DefineInstrument, Request
from infra.errors import ServerUnavailable
from infra.settings import load_settings
from schemas.canonical import command_hash
from schemas.partitioning import partition_of
from streams.answers import Answer
from streams.deciding.front import KafkaLedger
from streams.deciding.transfers import KafkaBook
from streams.kafka_log import KafkaLog
from streams.log import LogError
from streams.sent_lots import sent_legs
from streams.transfers import settle_transfers
from tests.streams.requests import request
from tests.streams.simulation.load import INSTRUMENT, Load

ACCOUNTS: Final = tuple(f"A{number}" for number in range(24))
_LARGEST: Final = 8
_AGAIN_S: Final = 0.2
_SETTLE_S: Final = 2.0
_LOOK_S: Final = 0.05


class Told(Struct, frozen=True):
    """A command, and an answer that somebody got to it."""

    request: Request
    content_hash: str
    answer: Answer


class Memory:
    """What all askers were told, and when somebody was told anything last."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.open: dict[int, Sequence[Request]] = {}
        self.failures: Counter[str] = Counter()
        self.longest_pause_s = 0.0
        self._last_s = time.monotonic()
        self._lock = threading.Lock()

    def asks(self, asker: int, requests: Sequence[Request]) -> None:
        """Note what somebody is about to ask."""
        with self._lock:
            self.open[asker] = requests

    def heard(self, asker: int, told: Sequence[Told]) -> None:
        """Note what somebody was told."""
        with self._lock:
            now_s = time.monotonic()
            self.longest_pause_s = max(self.longest_pause_s, now_s - self._last_s)
            self._last_s = now_s
            self.told.extend(told)
            self.open.pop(asker, None)

    def accepted(self) -> int:
        """How many commands were accepted, each counted once."""
        with self._lock:
            answers = [one.answer for one in self.told]
        return sum(one.status == "accepted" and not one.replayed for one in answers)

    def failed(self, error: Exception) -> None:
        """Note that nobody answered."""
        with self._lock:
            self.failures[type(error).__name__] += 1


class Asker(threading.Thread):
    """Asks a few commands at a time: new ones, some of its own again, some told otherwise."""

    def __init__(
        self, number: int, seed: int, ledger: KafkaLedger, memory: Memory, pause_s: float
    ) -> None:
        super().__init__(name=f"asker-{number}", daemon=True)
        self._number = number
        self._rng = random.Random(seed * 1000 + number)
        self._load = Load(self._rng, ACCOUNTS, f"c{number}-")
        self._ledger = ledger
        self._memory = memory
        self._pause_s = pause_s
        self._asked: list[Request] = []
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask nothing new; what is open is asked until it is answered."""
        self._stopping.set()

    def run(self) -> None:
        """Ask until stopped."""
        # Every one defines it first: it is known already to all but one.
        self._ask([request("define", INSTRUMENT, DefineInstrument())])
        while not self._stopping.is_set():
            self._ask([self._next() for _ in range(self._rng.randrange(1, _LARGEST))])
            time.sleep(self._rng.random() * 2 * self._pause_s)

    def _next(self) -> Request:
        chance = self._rng.random()
        if self._asked and chance < 0.1:
            return self._rng.choice(self._asked)
        if self._asked and chance < 0.12:
            return self._load.other(self._rng.choice(self._asked))
        made = self._load.new()
        self._asked.append(made)
        return made

    def _ask(self, requests: list[Request]) -> None:
        self._memory.asks(self._number, requests)
        while True:
            try:
                answers = self._ledger.submit(requests)
                break
            except (ServerUnavailable, LogError) as error:
                self._memory.failed(error)
                time.sleep(_AGAIN_S)
        told = [
            Told(one, command_hash(one), answer)
            for one, answer in zip(requests, answers, strict=True)
        ]
        self._memory.heard(self._number, told)


class Looker(threading.Thread):
    """Asks for the positions of accounts as a server does, which brings them into Redis.

    `faults` are answers from before what the server would have known of.
    """

    def __init__(self, number: int, log: KafkaLog, dsn: str, cache_url: str, memory: Memory):
        super().__init__(name="looker", daemon=True)
        self._rng = random.Random(number)
        log_url = f"kafka://{log.place.hosts}/{log.place.namespace}"
        urls = {"LOG": log_url, "STORE": dsn, "CACHE": cache_url}
        environ = {f"DAYBOOK_{name}_URL": url for name, url in urls.items()}
        self._parts = Parts(load_settings(environ=environ), log_url, dsn)
        self._parts.log = log
        self._memory = memory
        self._stopping = threading.Event()
        self.faults: list[str] = []

    def stop(self) -> None:
        """End."""
        self._stopping.set()

    def run(self) -> None:
        """Look until stopped."""
        with contextlib.ExitStack() as stack:
            while not self._stopping.wait(_LOOK_S):
                try:
                    if "models" not in self._parts.__dict__:
                        stack.callback(self._parts.models.close)
                    self._look(self._rng.choice(ACCOUNTS))
                except (ServerUnavailable, LogError, psycopg.Error) as error:
                    self._memory.failed(error)
                    time.sleep(_AGAIN_S)
            if self._parts.copy is not None:
                self._parts.copy.close()

    def _look(self, account: str) -> None:
        partition = partition_of(account, self._parts.log.partitions)
        known = self._parts.models.checkpoints().get(("positions", partition))
        at_least = 0 if known is None else known.next_offset - 1
        asked, model = Question(account=account), READ_MODELS["positions"]
        answer = page(self._parts, model, asked, EVER, None, DEFAULT_LIMIT, at_least=at_least)
        if int(answer.position.partition(":")[2]) < at_least:
            self.faults.append(f"{account} was answered at {answer.position}, after {at_least}")


class Clerk(threading.Thread):
    """Carries transfers to their end, time and again, as whoever asks a ledger does."""

    def __init__(self, ledger: KafkaLedger, log: KafkaLog, dsn: str, memory: Memory) -> None:
        super().__init__(name="clerk", daemon=True)
        self._ledger = ledger
        self._log = log
        self._dsn = dsn
        self._memory = memory
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Settle what is left, and end."""
        self._stopping.set()

    def run(self) -> None:
        """Settle until stopped, and once more."""
        while True:
            is_last = self._stopping.is_set()
            is_done = self._settle()
            if is_last and is_done:
                return
            self._stopping.wait(_SETTLE_S)

    def _settle(self) -> bool:
        try:
            with KafkaBook.of(self._ledger, self._dsn, self._log.place.schema) as book:
                settle_transfers(self._ledger, lambda sent: sent_legs(self._log, sent), book)
        except (ServerUnavailable, LogError, psycopg.OperationalError) as error:
            self._memory.failed(error)
            time.sleep(_AGAIN_S)
            return False
        return True
