"""When Python looks for reference cycles."""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

_NEW_OBJECTS: Final = 50_000
"""Objects that come to be between two searches of a program that serves: Python's own is 700."""


@contextlib.contextmanager
def no_cycle_search() -> Iterator[None]:
    """Put off the search for cycles of references, for a block that makes many objects and none.

    Decoding and folding make trees of structs, which are freed as they are let go. Searching them
    for cycles over and over takes a third of the time. Of the whole process: keep the block short.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def search_cycles_seldom() -> None:
    """Leave alone what is there, and search for cycles after many new objects: for a whole program.

    One that decides command after command makes many objects and hardly a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
