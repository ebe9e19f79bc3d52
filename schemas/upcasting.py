"""Older versions of events, brought up to the current one, as JSON, a version at a time.

A record is never rewritten. What was written as version 1 is read through the upcaster from 1 to
2, then from 2 to 3, and so on, and only the last version has a struct. An upcaster is a pure
function of the data alone; it may not look up anything, because its answer must be the same for
ever.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

JsonObject = dict[str, Any]
Upcaster = Callable[[JsonObject], JsonObject]
Upcasters = Mapping[tuple[str, int], Upcaster]
"""By type and version, the function that makes the next version's data of that version's."""

UPCASTERS: Final[Upcasters] = {}


class NotUpcast(Exception):  # noqa: N818 - an old version that cannot be read, named by that
    """Say from which version of a type no way leads on, and why."""

    def __init__(self, event_type: str, version: int, why: str) -> None:
        self.event_type = event_type
        self.version = version
        super().__init__(f"{event_type} version {version}: {why}")


_MISFITS: Final = (LookupError, TypeError, ValueError, AttributeError)
"""What an upcaster raises on data that its version never held."""


def upcast(
    event_type: str,
    version: int,
    data: JsonObject,
    *,
    current: int,
    upcasters: Upcasters = UPCASTERS,
) -> JsonObject:
    """Return the data of an older version as the current version's; raises NotUpcast.

    Also raised where the data is not of its version, so that an upcaster finds no such field.
    """
    if version > current:
        raise NotUpcast(event_type, version, f"newer than {current}, known here")
    for step in range(version, current):
        upcaster = upcasters.get((event_type, step))
        if upcaster is None:
            raise NotUpcast(event_type, step, "no upcaster from it")
        try:
            data = upcaster(data)
        except _MISFITS as error:
            raise NotUpcast(event_type, step, f"its upcaster fails: {error!r}") from error
    return data
