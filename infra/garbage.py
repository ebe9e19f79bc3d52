"""When Python looks for reference cycles."""

import contextlib
import gc
from collections.abc import Iterator


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
