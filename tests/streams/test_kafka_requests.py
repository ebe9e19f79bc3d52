"""The requests packed here are, to the byte, those that aiokafka's schemas make."""

from io import BytesIO

import pytest
from aiokafka.protocol.fetch import (  # type: ignore[import-untyped]
    FetchRequest,
    FetchResponse_v11,
)
from aiokafka.protocol.produce import (  # type: ignore[import-untyped]
    ProduceRequest,
    ProduceResponse_v7,
)
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka_requests import Fetch, Fetched, Produce, Produced

VERSIONS = {0: (0, 12), 1: (4, 17)}
"""What a broker of today knows of Produce and Fetch."""
OLDER = {0: (0, 6), 1: (0, 7)}
HEADER = b"\0\0\0\7"

int16, int32 = st.integers(-(2**15), 2**15 - 1), st.integers(-(2**31), 2**31 - 1)
int64, topic = st.integers(-(2**63), 2**63 - 1), st.text("abcä.-_", min_size=1, max_size=9)


def topics(*fields: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    """Return topics that have partitions of some fields."""
    partitions = st.lists(st.tuples(*fields), max_size=3)
    return st.lists(st.tuples(topic, partitions), max_size=3)


@given(int32, int32, int32, st.integers(0, 1), topics(int32, int64, int32))
@pytest.mark.parametrize("versions", [VERSIONS, OLDER])
def test_a_fetch_is_that_of_aiokafka(
    versions: dict[int, tuple[int, int]],
    wait_ms: int,
    least: int,
    most: int,
    isolation: int,
    asked: list[object],
) -> None:
    ours = Fetch(wait_ms, least, most, isolation, asked, rack_id="").prepare(versions)
    theirs = FetchRequest(wait_ms, least, most, isolation, asked, rack_id="").prepare(versions)
    assert sent(ours) == sent(theirs)


@given(st.sampled_from([1, -1]), int32, topics(int32, st.binary(max_size=20)))
@pytest.mark.parametrize("versions", [VERSIONS, OLDER])
def test_a_produce_is_that_of_aiokafka(
    versions: dict[int, tuple[int, int]], acks: int, timeout_ms: int, told: list[object]
) -> None:
    ours = Produce(None, acks, timeout_ms, told).prepare(versions)
    theirs = ProduceRequest(None, acks, timeout_ms, told).prepare(versions)
    assert sent(ours) == sent(theirs)


def sent(request: object) -> bytes:
    """Return what a connection sends of a request."""
    header = request.build_request_header(correlation_id=7, client_id="daybook-ä")  # type: ignore[attr-defined]
    return bytes(header.encode() + request.encode())  # type: ignore[attr-defined]


ABORTED = st.lists(st.tuples(int64, int64), max_size=2)
RECORDS = st.none() | st.binary(max_size=20)


@given(topics(int32, int16, int64, int64, int64, ABORTED, int32, RECORDS))
def test_what_was_fetched_is_read_as_aiokafka_reads_it(told: list[object]) -> None:
    answer = FetchResponse_v11(0, 0, 0, told).encode()
    read = FetchResponse_v11.decode(BytesIO(answer))
    expected = [
        (name, [(one[0], one[1], one[2], one[-1] or None) for one in partitions])
        for name, partitions in read.topics
    ]
    assert Fetched.decode(after_header(answer)).topics == expected


@given(topics(int32, int16, int64, int64, int64))
def test_what_was_produced_is_read_as_aiokafka_reads_it(told: list[object]) -> None:
    answer = ProduceResponse_v7(told, 0).encode()
    read = ProduceResponse_v7.decode(BytesIO(answer))
    expected = [(name, [one[:3] for one in partitions]) for name, partitions in read.topics]
    assert Produced.decode(after_header(answer)).topics == expected


def after_header(answer: bytes) -> BytesIO:
    """Return an answer of which the connection has read the header."""
    request = Fetch(0, 0, 0, 0, [], rack_id="").prepare(VERSIONS)
    buffer = BytesIO(HEADER + answer)
    assert request.parse_response_header(buffer).correlation_id == int.from_bytes(HEADER)
    return buffer
