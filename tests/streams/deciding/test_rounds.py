"""What is asked again hears also who answers late, where that says what is recorded."""

import asyncio

from streams.answers import Answer, Status
from streams.deciding.rounds import Round
from streams.deciding.wire import Reply


def reply(status: Status) -> Reply:
    """A reply of a status."""
    return Reply(answer=Answer(status=status, command_id="c", topic="events", partition=0))


async def asked_twice(late: Reply, again: Reply) -> tuple[list[Reply | None], list[int], bool]:
    """Return what one of two commands hears, what is asked again, and whether all is heard."""
    told = Round(2)
    assert told.begin() == [0, 1]
    told.take(1, 1, reply("accepted"))
    told.end()
    rest = told.begin()
    told.take(0, 1, late)
    told.take(0, 2, again)
    told.take(1, 1, reply("refused"))
    return told.replies, rest, told.is_over.done()


def test_a_late_answer_that_is_recorded_counts() -> None:
    late, again = reply("accepted"), reply("duplicate")
    assert asyncio.run(asked_twice(late, again)) == ([late, reply("accepted")], [0], True)


def test_a_late_answer_that_is_not_recorded_does_not() -> None:
    late, again = reply("lacking"), reply("accepted")
    assert asyncio.run(asked_twice(late, again)) == ([again, reply("accepted")], [0], True)
