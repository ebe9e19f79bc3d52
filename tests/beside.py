"""Work that goes on beside a test, in threads that have ended when the test goes on."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beside(*works: Callable[[], object], over: threading.Event | None = None) -> Iterator[None]:
    """Do each work in a thread for the length of a block, at whose end all are waited for.

    `over` is set first, for works that go on until it is: also where the block fails, because a
    thread that stays would use what the fixtures close. Raises what the first work raised.
    """
    failures: list[BaseException] = []

    def done(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    # One that hangs is a test that fails by its time limit, and does not keep the run from ending.
    threads = [threading.Thread(target=done, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    except BaseException as error:
        for failure in failures:
            error.add_note(f"what went on beside it failed: {failure!r}")
        raise
    finally:
        if over is not None:
            over.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
