"""What was asked together, until all of it is answered."""

import asyncio
import time

from streams.deciding.wire import Reply


class Round:
    """Questions that were asked together, as often as it takes, and the replies as they come."""

    def __init__(self, size: int) -> None:
        self.replies: list[Reply | None] = [None] * size
        self.rest = size
        self.times = 0
        self.heard_at = time.monotonic()
        self.is_over: asyncio.Future[None]

    def begin(self) -> list[int]:
        """Ask once more; return the indexes of what has no reply yet."""
        self.times += 1
        self.heard_at = time.monotonic()
        self.is_over = asyncio.get_running_loop().create_future()
        return [index for index, reply in enumerate(self.replies) if reply is None]

    def take(self, index: int, times: int, reply: Reply) -> None:
        """Take the reply to one of them, when they were asked for the `times`-th time.

        What an earlier asking came to is as good where it is recorded. Where it is not, the later
        one may still come to something else.
        """
        self.heard_at = time.monotonic()
        if self.replies[index] is not None or (times < self.times and not _is_final(reply)):
            return
        self.replies[index] = reply
        self.rest -= 1
        if not self.rest:
            self.end()

    def end(self, error: BaseException | None = None) -> None:
        """Wait for no more replies."""
        if self.is_over.done():
            return
        if error is None:
            self.is_over.set_result(None)
        else:
            self.is_over.set_exception(error)


def _is_final(reply: Reply) -> bool:
    """Tell whether a reply says what is recorded."""
    return reply.answer is not None and reply.answer.status != "lacking"
