"""Commands as they stand in Kafka, and the waves in which they are asked."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import commands, decider
from domain.commands import Request, topic_of
from schemas.partitioning import partition_of
from streams.answers import Answer
from streams.deciding.order import waves
from streams.deciding.wire import (
    AFTER,
    ASK,
    REPLY_TO,
    LookUp,
    Route,
    Undecidable,
    decode_asked,
    decode_reply,
    encode_look_up,
    encode_reply,
    encode_request,
    headers_of,
    route_of,
)
from tests.streams.sample_book import at, sample_requests


@pytest.mark.parametrize("seed", range(3))
def test_every_command_comes_back_as_it_was(seed: int) -> None:
    for request in sample_requests(200, seed):
        partition = partition_of(request.key, 16)
        value = encode_request(request)
        assert decode_asked(request.key.encode(), value, partition, 16) == request


def test_a_question_and_an_answer_come_back_as_they_were() -> None:
    look_up = LookUp("reference", "AAPL", "instrument", "")
    value = encode_look_up(look_up)
    assert decode_asked(b"AAPL", value, partition_of("AAPL", 4), 4) == look_up
    answer = Answer(
        status="refused", command_id="c", topic="events", partition=1, numbers={"limit": "1.50"}
    )
    assert decode_reply(encode_reply(answer)).answer == answer


@pytest.mark.parametrize(
    ("headers", "route"),
    [
        ([], Route()),
        ([("traceparent", b"x")], Route()),
        ([(ASK, b"1"), (REPLY_TO, b"3")], Route(b"1", 3)),
        ([(AFTER, b"0:12,3:4")], Route(after={0: 12, 3: 4})),
    ],
)
def test_a_route_is_told_by_headers(headers: list[tuple[str, bytes]], route: Route) -> None:
    assert route_of(headers, 4) == route
    if route.ask is not None:
        assert headers_of(route) == headers


@pytest.mark.parametrize(
    "header", [(REPLY_TO, b"4"), (REPLY_TO, b"-1"), (AFTER, b"x"), (AFTER, b"9:1")]
)
def test_a_route_that_cannot_be_is_refused(header: tuple[str, bytes]) -> None:
    with pytest.raises(Undecidable, match=header[0]):
        route_of([header], 4)


def test_a_command_in_another_partition_than_its_key_is_refused() -> None:
    (request, *_) = sample_requests(1)
    wrong = (partition_of(request.key, 16) + 1) % 16
    with pytest.raises(Undecidable, match="belong in partition"):
        decode_asked(request.key.encode(), encode_request(request), wrong, 16)


_KEYS = st.sampled_from(["X", "Y"])


@st.composite
def _requests(draw: st.DrawFn) -> list[Request]:
    found = []
    for number in range(draw(st.integers(0, 12))):
        instrument = draw(_KEYS)
        command: commands.Command = commands.DefineInstrument(currency="USD")
        key = instrument
        if draw(st.booleans()):
            key = draw(st.sampled_from(["A", "B"]))
            command = commands.RecordDeal(
                deal_id=f"d{number}",
                instrument=instrument,
                side="buy",
                quantity=Decimal(1),
                currency="USD",
            )
        found.append(Request(command_id=f"{number}", key=key, event_time=at(0), command=command))
    return found


@given(_requests())
def test_waves_keep_the_order_of_streams_and_of_what_defines_before_what_is_booked(
    requests: list[Request],
) -> None:
    found = waves(requests, decider.keys_of)
    assert sorted(index for wave in found for index in wave) == list(range(len(requests)))
    wave_of = {index: number for number, wave in enumerate(found) for index in wave}
    assert all(wave == sorted(wave) for wave in found)
    for later, request in enumerate(requests):
        for earlier, before in enumerate(requests[:later]):
            if (topic_of(before.command), before.key) == (topic_of(request.command), request.key):
                assert wave_of[earlier] <= wave_of[later]
            named = {getattr(one.command, "instrument", None) for one in (before, request)}
            if topic_of(before.command) != topic_of(request.command) and named & {
                before.key,
                request.key,
            }:
                assert wave_of[earlier] < wave_of[later]


def test_openings_and_definitions_are_one_wave_and_their_deals_another() -> None:
    assert len(waves(sample_requests(300), decider.keys_of)) == 2
