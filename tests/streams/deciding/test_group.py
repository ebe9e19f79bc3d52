"""The group of deciders: what it has committed is never taken back, and never forgotten."""

import asyncio
import socket
import uuid

import pytest
from aiokafka import errors
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from streams.deciding.group import (
    WANTED_SESSION_MS,
    Group,
    committed_offset,
    least_session_ms,
    longest_least,
)
from streams.kafka_client import parse_place
from streams.kafka_log import KafkaLog

LOADING = errors.GroupLoadInProgressError.errno


def told(offset: int, of_partition: int = 0, of_group: int = 0) -> OffsetFetchResponse_v3:
    """An answer about one partition, as the protocol has it."""
    topics = [("commands", [(3, offset, "", of_partition)])]
    return OffsetFetchResponse_v3(0, topics, of_group)


def test_an_answer_tells_the_offset_or_that_there_is_none() -> None:
    assert committed_offset(told(41)) == 41
    assert committed_offset(told(0)) == 0
    assert committed_offset(told(-1)) is None


def test_a_group_that_is_still_loading_has_not_committed_nothing() -> None:
    # A coordinator tells so of the whole group, and then names no partition. It does so for
    # moments after a broker died, which no test can wait for.
    with pytest.raises(errors.GroupLoadInProgressError):
        committed_offset(OffsetFetchResponse_v3(0, [], LOADING))
    with pytest.raises(errors.GroupLoadInProgressError):
        committed_offset(told(-1, of_partition=LOADING))


def test_the_session_is_the_shortest_that_all_allow_who_tell() -> None:
    away = errors.RequestTimedOutError()
    assert longest_least([500]) == WANTED_SESSION_MS
    assert longest_least([1000, 2500, 1500]) == 2500
    assert longest_least([away, 1500, None]) == 1500
    assert longest_least([away, None]) == longest_least([]) == 6000
    with pytest.raises(ZeroDivisionError):
        longest_least([1500, ZeroDivisionError()])


def test_a_broker_that_stands_still_does_not_make_sessions_long(kafka_bootstrap: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},{kafka_bootstrap}"
        options = parse_place(hosts, "any").client_options()
        assert asyncio.run(least_session_ms(options)) == WANTED_SESSION_MS


def test_asking_whose_a_partition_is_takes_no_commit_back(kafka_bootstrap: str) -> None:
    place = parse_place(kafka_bootstrap, f"group-{uuid.uuid4().hex[:8]}")
    KafkaLog.open(kafka_bootstrap, place.namespace).close()
    assert asyncio.run(_commit_and_confirm(place.client_options(), place.namespace)) == 40


async def _commit_and_confirm(options: dict[str, object], namespace: str) -> int | None:
    mine: set[int] = set()
    assigned = asyncio.Event()

    async def on_assigned(numbers: set[int]) -> None:
        mine.update(numbers)
        assigned.set()

    async def on_revoked(numbers: set[int]) -> None:
        mine.difference_update(numbers)

    group = Group(options, namespace, 6000, on_revoked, on_assigned)
    await group.join()
    try:
        await asyncio.wait_for(assigned.wait(), 60)
        number = min(mine)
        assert await group.committed(number) is None
        for offset in range(1, 41):
            done = await asyncio.gather(
                group.confirms(number), group.commit({number: offset}), group.confirms(number)
            )
            assert all(done)
            assert await group.committed(number) == offset
        return await group.committed(number)
    finally:
        await group.leave()
