"""What writes of one partition do to those of others while its owner is away."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from api.commands_json import fact_from_object
from api.http import writing
from api.http.following import Follower
from api.http.problems import Problem
from api.http.writing import Answers, Writer
from api.importing.lines import Fact
from domain.commands import Request, topic_of
from infra.errors import ServerUnavailable
from infra.settings import load_settings
from schemas.partitioning import partition_of
from streams.answers import Answer

PARTITIONS = 16
PATIENCE_S = 60.0
AWAY, OTHER, THIRD = "A1", "A2", "A3"
"""Accounts of three partitions; the owner of the first is away."""


class Ledger:
    """Decides everything but what is of AWAY, which waits until its owner is back."""

    def __init__(self) -> None:
        self.log = SimpleNamespace(partitions=PARTITIONS)
        self.is_back = threading.Event()
        self.is_closed = False
        self.opened = self.given_back = 0

    def fetch_entity(self, _place: object, ref: tuple[str, str, str]) -> object:
        return ref

    def submit(self, requests: Sequence[Request]) -> list[Answer]:
        if any(one.key == AWAY for one in requests):
            assert self.is_back.wait(PATIENCE_S)
            if self.is_closed:
                raise ServerUnavailable("a decider", "no answer", "is one running?")
        return [
            Answer(
                status="accepted",
                command_id=one.command_id,
                topic=topic_of(one.command),
                partition=partition_of(one.key, PARTITIONS),
                offset=1,
            )
            for one in requests
        ]

    def close(self) -> None:
        self.is_closed = True
        self.is_back.set()


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger in place of one in Kafka, where an owner cannot be sent away alone."""
    made = Ledger()

    @contextlib.contextmanager
    def running(_settings: object) -> Iterator[Any]:
        made.opened += 1
        log = SimpleNamespace(partitions=PARTITIONS, heads=lambda _: [1] * PARTITIONS)
        # The workers are behind: nothing was projected.
        projector = SimpleNamespace(catch_up=lambda: 0)
        models = SimpleNamespace(checkpoints=dict)
        yield SimpleNamespace(
            ledger=made, log=log, projector=projector, models=models, is_distributed=True
        )
        made.given_back += 1

    monkeypatch.setattr(writing, "running", running)
    return made


@contextlib.asynccontextmanager
async def opened(folder: Path) -> Any:
    """Yield a writer of a ledger in Kafka; it is closed, whatever waits."""
    environ = {"DAYBOOK_LOG_URL": "kafka://127.0.0.1:1/none"}
    settings = load_settings(folder, environ=environ, folder=folder)
    loop = asyncio.get_running_loop()
    writer = Writer(settings, loop, Follower(settings, loop), PARTITIONS)
    try:
        yield writer
    finally:
        await asyncio.to_thread(writer.close)


def fact(account: str, cash_id: str) -> Fact:
    data = {"cash_id": cash_id, "kind": "deposit", "currency": "USD", "amount": "1"}
    about = {"account": account, "event_time": "2024-01-02T14:30:00Z"}
    return fact_from_object({"command_id": cash_id, "type": "MoveCash", "data": data, **about}, 0)


def definition(command_id: str) -> Fact:
    data = {"kind": "equity", "currency": "USD"}
    about = {"key": "X", "event_time": "2024-01-02T14:30:00Z"}
    told = {"command_id": command_id, "type": "DefineInstrument", "data": data, **about}
    return fact_from_object(told, 0)


def statuses(answers: Answers) -> list[str]:
    return [one.status if isinstance(one, Answer) else one.reason for one in answers]


def test_the_accounts_are_of_three_partitions() -> None:
    assert len({partition_of(one, PARTITIONS) for one in (AWAY, OTHER, THIRD)}) == 3


def test_a_partition_without_an_owner_holds_up_no_other(tmp_path: Path, ledger: Ledger) -> None:
    async def run() -> None:
        async with opened(tmp_path) as writer, asyncio.timeout(PATIENCE_S):
            stuck = [asyncio.create_task(writer.submit([fact(AWAY, f"s{n}")])) for n in range(3)]
            await asyncio.sleep(0)
            for number in range(5):
                answers = await writer.submit([fact(OTHER, f"o{number}")])
                assert statuses(answers) == ["accepted"]
            both = await writer.submit([fact(OTHER, "list"), fact(THIRD, "list")])
            assert statuses(both) == ["accepted", "accepted"]
            assert not any(one.done() for one in stuck)
            ledger.is_back.set()
            for one in stuck:
                assert statuses(await one) == ["accepted"]

    asyncio.run(run())


def test_who_waits_for_an_owner_is_answered_when_the_server_ends(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "ANSWER_S", 3_600.0)
    monkeypatch.setattr(writing, "ENDING_S", 0.01)

    async def run() -> None:
        async with asyncio.timeout(PATIENCE_S), opened(tmp_path) as writer:
            waiting = asyncio.create_task(writer.submit([fact(AWAY, "s")]))
            await asyncio.sleep(0)
            writer.hurry()
            for one in (waiting, writer.submit([fact(AWAY, "later")])):
                with pytest.raises(Problem) as told:
                    await one
                assert "it is not known whether this was recorded" in told.value.detail

    asyncio.run(run())
    assert ledger.is_closed, "what waited in a thread was broken off"


def test_a_failure_is_told_and_the_next_gets_parts_that_were_opened_anew(
    tmp_path: Path, ledger: Ledger
) -> None:
    async def run() -> None:
        async with opened(tmp_path) as writer, asyncio.timeout(PATIENCE_S):
            ledger.close()
            with pytest.raises(ServerUnavailable):
                await writer.submit([fact(AWAY, "s")])
            assert statuses(await writer.submit([fact(OTHER, "o")])) == ["accepted"]
            assert statuses(await writer.submit([fact(THIRD, "p")])) == ["accepted"]

    asyncio.run(run())
    assert (ledger.opened, ledger.given_back) == (2, 2)


def test_only_who_defines_an_instrument_is_told_that_the_workers_are_behind(
    tmp_path: Path, ledger: Ledger
) -> None:
    async def run() -> None:
        async with opened(tmp_path) as writer, asyncio.timeout(PATIENCE_S):
            away = asyncio.create_task(writer.submit([fact(AWAY, "s"), fact(OTHER, "s")]))
            lists = (
                [fact(OTHER, "o1"), definition("d1")],
                [fact(OTHER, "o2"), fact(THIRD, "t2")],
            )
            await asyncio.sleep(0)
            defining, other = (asyncio.create_task(writer.submit(one)) for one in lists)
            await asyncio.sleep(0)
            # By itself it does not wait for what is held up.
            with pytest.raises(Problem, match="what was defined is recorded"):
                await writer.submit([definition("d2")])
            assert not any(one.done() for one in (away, defining, other))
            ledger.is_back.set()
            assert statuses(await away) == ["accepted", "accepted"]
            assert statuses(await other) == ["accepted", "accepted"]
            with pytest.raises(Problem, match="send it again with the same key"):
                await defining

    asyncio.run(run())
    assert (ledger.opened, ledger.given_back) == (1, 1), "the parts are as good as before"
