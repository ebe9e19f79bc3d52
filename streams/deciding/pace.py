"""How many commands an owner decides together."""

from typing import Final

MOST: Final = 1000
LEAST: Final = 32
_FIRST: Final = 256
_GOAL_S: Final = 0.03
"""For so long nothing else has its turn: each lane decides some, one after the other.

The group takes an owner for dead that is not heard for a second.
"""


class Pace:
    """Follows how long deciding takes on this machine, so that it takes 30 ms together."""

    def __init__(self) -> None:
        self.most = _FIRST

    def note(self, count: int, took_s: float) -> None:
        """Take note of how long so many took; few tell of many only where they took too long."""
        if count < self.most and took_s <= _GOAL_S:
            return
        fitting = min(int(count * _GOAL_S / took_s), 2 * self.most)
        self.most = max(LEAST, min(fitting, MOST))
