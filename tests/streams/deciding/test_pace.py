"""Commands are decided together for some 30 ms."""

from streams.deciding.pace import LEAST, MOST, Pace


def test_a_slow_machine_decides_fewer_together() -> None:
    pace = Pace()
    pace.note(200, 0.3)
    assert pace.most == LEAST
    pace.note(LEAST, 0.010)
    assert pace.most == 2 * LEAST


def test_few_that_took_a_moment_tell_nothing_of_many() -> None:
    pace = Pace()
    before = pace.most
    pace.note(1, 0.002)
    assert pace.most == before


def test_there_is_a_most() -> None:
    pace = Pace()
    for _ in range(10):
        pace.note(pace.most, 0.001)
    assert pace.most == MOST
