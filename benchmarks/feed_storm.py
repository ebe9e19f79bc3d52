"""All clients resume after the server was killed, while deals are told all the time.

What each client was sent is then compared with the table: every row once, each frame going on
where the one before ended.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import httpx
import msgspec

from benchmarks.feed_clients import Crowd, joined
from benchmarks.feed_server import Server, serving, tell

ACCOUNT: Final = "STORM"
_A_SECOND: Final = 20
_BEFORE_S: Final = 2.0
_WAIT_S: Final = 60.0


class _Writer:
    """Tells deals, numbered from 1, at a steady rate; one that was not answered again and again."""

    def __init__(self, url: str) -> None:
        self.told = 0
        self._url = url
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write for the length of a block."""
        self._thread.start()
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        """End with a deal that was answered."""
        self._is_over.set()
        self._thread.join(_WAIT_S)
        assert not self._thread.is_alive(), "the last deal was never answered"

    def _run(self) -> None:
        with httpx.Client(base_url=self._url) as client:
            while not self._is_over.wait(1 / _A_SECOND):
                number = self.told + 1
                while not self._is_told(client, number):
                    time.sleep(0.05)
                self.told = number

    def _is_told(self, client: httpx.Client, number: int) -> bool:
        try:
            tell(client, ACCOUNT, number)
        except httpx.HTTPError:
            return False
        return True


def resume_s(home: str, clients: int) -> float:
    """Return how long it takes all clients to have what they missed, in seconds.

    From the moment at which the server is up again. Raises AssertionError where a client's rows
    are not the table's, or a frame was missed or doubled.
    """
    with contextlib.ExitStack() as stack:
        with serving(home, killed=True) as server:
            with httpx.Client(base_url=server.url) as client:
                tell(client, ACCOUNT, 1)
            before = joined(server.port, ACCOUNT, clients)
            writer = _Writer(server.url)
            writer.told = 1
            stack.enter_context(writer.writing())
            before.read_until(lambda: False, _BEFORE_S)
        before.read_to_the_end()
        server = stack.enter_context(serving(home, port=server.port))
        start = time.monotonic()
        positions = [one.position for one in before.clients]
        missed = writer.told + 1
        after = joined(server.port, ACCOUNT, clients, positions)
        assert _has_all(after, missed)
        taken_s = time.monotonic() - start
        after.read_until(lambda: False, _BEFORE_S)
        writer.end()
        assert _has_all(after, writer.told)
        after.close()
        _compare(server, before, after)
    return taken_s


def _has_all(crowd: Crowd, number: int) -> bool:
    """Read until every client was sent the deal of a number; tell whether it was, in time."""
    lacking = dict.fromkeys(crowd.clients, 0)
    told = b'"deal_id":"%d"' % number

    def is_done() -> bool:
        for client, looked_at in list(lacking.items()):
            if any(told in heard.frame for heard in client.heard[looked_at:]):
                del lacking[client]
            else:
                lacking[client] = len(client.heard)
        return not lacking

    return crowd.read_until(is_done, _WAIT_S)


def _compare(server: Server, before: Crowd, after: Crowd) -> None:
    with httpx.Client(base_url=server.url) as client:
        table = Counter(_stored(client))
    for old, new in zip(before.clients, after.clients, strict=True):
        sent: Counter[str] = Counter()
        position = None
        for heard in (*old.heard, *new.heard):
            frame: dict[str, Any] = msgspec.json.decode(heard.frame)
            assert frame.get("previous") == position, frame
            position = frame["position"]
            sent.update(row["deal_id"] for row in frame["rows"])
        assert sent == table, (sent - table, table - sent)


def _stored(client: httpx.Client) -> Iterator[str]:
    """Yield the ids of all deals of the account, by pages."""
    cursor: dict[str, str] = {}
    while True:
        answer = client.get(f"/v1/accounts/{ACCOUNT}/deals", params=cursor)
        page = answer.raise_for_status().json()
        yield from (row["deal_id"] for row in page["data"])
        if page["next"] is None:
            return
        cursor = {"cursor": page["next"]}
