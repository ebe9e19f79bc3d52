"""Feeds: what a client says and hears, whatever carries it, and the loops that carry it."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from dataclasses import dataclass
from socket import gaierror
from ssl import SSLCertVerificationError
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from .errors import (
    DaybookError,
    FeedGap,
    RateLimited,
    Unauthenticated,
    Unavailable,
    error_of,
    problem_error,
)
from .requests import wait_s
from .rows import Row, with_decimals

SILENCE_S: Final = 20.0
"""A server says something every few seconds: after so long without it, it is taken for gone."""
LARGEST_FRAME: Final = 256 * 1024 * 1024
_TOKEN_ENDED: Final = 4401
_GIVEN_UP: Final = frozenset((1008, 1009, 4429))
_LOST: Final = (
    ConnectionClosed,
    InvalidHandshake,
    OSError,
    TimeoutError,
    EOFError,  # websockets 14, where a server dies within the handshake
    RateLimited,
    Unavailable,
)
"""What a feed outlives, unless `_pause` says otherwise."""
_log: Final = logging.getLogger("daybook_client")


@dataclass(frozen=True)
class Update:
    """Rows of a subscription: all there are, or those that changed since `previous`.

    `position` is where to go on from, `removed` has the keys of rows that are gone.
    """

    is_snapshot: bool
    position: str
    rows: list[Row]
    previous: str | None = None
    removed: tuple[Row, ...] = ()


class Subscription:
    """One subscription over any number of connections: checks that nothing is missed."""

    def __init__(self, topic: str, account: str | None, position: str | None) -> None:
        self.topic = topic
        self.account = account
        self.position = position
        self.tokens_ended = 0
        self._id = 0
        self._is_resumed = False

    @property
    def has_begun(self) -> bool:
        """Whether there has been a connection yet."""
        return self._id > 0

    def begin(self) -> str:
        """Return the frame that subscribes, from where the last connection ended."""
        self._id += 1
        self._is_resumed = self.position is not None
        asked: dict[str, Any] = {"op": "subscribe", "id": self._id, "topic": self.topic}
        if self.account is not None:
            asked["account"] = self.account
        if self.position is not None:
            asked["from"] = self.position
        return json.dumps(asked)

    def again(self) -> tuple[str, str]:
        """Return the frames that end what has a gap, and subscribe anew from the last position."""
        ended = json.dumps({"op": "unsubscribe", "id": self._id})
        begun = self.begin()
        self._is_resumed = True
        return ended, begun

    def take(self, frame: str | bytes) -> "Update | Again | None":
        """Return the update in a frame, if there is one.

        Raises FeedGap for a gap that a new subscription did not close, ProblemError for what the
        server refuses.
        """
        told: dict[str, Any] = json.loads(frame)
        match told:
            case {"op": "snapshot", "id": self._id}:
                update = Update(True, told["position"], self._rows(told))
            case {"op": "delta", "id": self._id}:
                if told["previous"] != self.position:
                    return self._gap(told["previous"])
                update = Update(
                    False,
                    told["position"],
                    self._rows(told),
                    told["previous"],
                    tuple(told["removed"]),
                )
            case {"op": "error", "id": found} if found in (None, self._id):
                raise problem_error(told["problem"], int(told["problem"]["status"]))
            case _:
                return None
        self.position = update.position
        self.tokens_ended = 0
        self._is_resumed = False
        return update

    def _rows(self, told: Mapping[str, Any]) -> list[Row]:
        return [with_decimals(self.topic, row) for row in told["rows"]]

    def _gap(self, previous: str) -> "Again":
        if self._is_resumed:
            raise FeedGap(f"{self.topic}: asked from {self.position}, but told from {previous}")
        return Again()


class Again:
    """Something was missed: subscribe again, from the last position."""


@dataclass(frozen=True)
class Place:
    """Where the feed is, and the token to open it with; asked anew for each connection."""

    base_url: str
    token: Callable[[], str | None]

    @property
    def url(self) -> str:
        """The address of the feed."""
        parts = urlsplit(self.base_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/v1/feed", "", ""))

    def headers(self) -> dict[str, str]:
        """Return the headers of a connection."""
        told = self.token()
        return {} if told is None else {"Authorization": f"Bearer {told}"}


async def follow(place: Place, subscription: Subscription) -> AsyncGenerator[Update, None]:
    """Yield the updates of a subscription, over as many connections as it takes."""
    failures = 0
    while True:
        try:
            async with contextlib.aclosing(_connected(place, subscription)) as updates:
                async for update in updates:
                    failures = 0
                    yield update
        except _LOST as error:
            pause_s = _pause(place, subscription, error, failures)
        failures += 1
        await asyncio.sleep(pause_s)


async def _connected(place: Place, subscription: Subscription) -> AsyncGenerator[Update, None]:
    async with websockets.asyncio.client.connect(
        place.url, additional_headers=place.headers(), max_size=LARGEST_FRAME, compression=None
    ) as socket:
        await socket.send(subscription.begin())
        while True:
            async with asyncio.timeout(SILENCE_S):
                frame = await socket.recv()
            match subscription.take(frame):
                case Update() as update:
                    yield update
                case Again():
                    for asked in subscription.again():
                        await socket.send(asked)
                case None:
                    pass


def follow_sync(place: Place, subscription: Subscription) -> Generator[Update, None, None]:
    """Yield the updates of a subscription, over as many connections as it takes."""
    failures = 0
    while True:
        try:
            for update in _connected_sync(place, subscription):
                failures = 0
                yield update
        except _LOST as error:
            pause_s = _pause(place, subscription, error, failures)
        failures += 1
        time.sleep(pause_s)


def _connected_sync(place: Place, subscription: Subscription) -> Generator[Update, None, None]:
    with websockets.sync.client.connect(
        place.url, additional_headers=place.headers(), max_size=LARGEST_FRAME, compression=None
    ) as socket:
        socket.send(subscription.begin())
        while True:
            match subscription.take(socket.recv(timeout=SILENCE_S)):
                case Update() as update:
                    yield update
                case Again():
                    for asked in subscription.again():
                        socket.send(asked)
                case None:
                    pass


def _pause(place: Place, subscription: Subscription, error: Exception, failures: int) -> float:
    """Return how long to wait before connecting again; raises where that is of no use."""
    retry_after = None
    match error:
        case InvalidStatus():
            status = error.response.status_code
            if status != 429 and (status < 500 or status == 501):
                raise error_of(status, bytes(error.response.body or b"")) from error
            retry_after = error.response.headers.get("Retry-After")
        case ConnectionClosed() if error.rcvd is not None and error.rcvd.code in _GIVEN_UP:
            raise DaybookError(f"sent away: {error}") from error
        case ConnectionClosed() if error.rcvd is not None and error.rcvd.code == _TOKEN_ENDED:
            subscription.tokens_ended += 1
            if subscription.tokens_ended > 1:  # without an update between
                told = {"title": "the token has ended", "detail": error.rcvd.reason}
                raise Unauthenticated(told, 401) from error
        case gaierror() | SSLCertVerificationError() if not subscription.has_begun:
            # Later it is an outage; at first it is the address that is wrong.
            told = {"title": "the server cannot be reached", "detail": f"{place.url}: {error}"}
            raise Unavailable(told, 503) from error
    pause_s = wait_s(failures, retry_after)
    what = f"{type(error).__name__}: {error}"
    _log.warning("%s: %s; connecting again in %.1f s", place.url, what, pause_s)
    return pause_s
