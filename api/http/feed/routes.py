"""The WebSocket of the feed, and the document that describes it."""

import asyncio
import time
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.websockets import WebSocket

from api.http.feed import asyncapi
from api.http.feed.connection import TOKEN_ENDED, TOO_FAST, Connection
from api.http.feed.frames import (
    Authenticate,
    BadFrame,
    Subscribe,
    Unsubscribe,
    problem,
    read_frame,
)
from api.http.feed.service import Feed
from api.http.feed.wire import open_wire
from api.http.problems import (
    FOREIGN_ORIGIN,
    INVALID_REQUEST,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Problem,
)
from api.http.security import Principal, bearer

router: Final = APIRouter()
SUBPROTOCOL: Final = "daybook.v1"
_BEARER: Final = "bearer."
"""A browser cannot set headers: it offers the token as a subprotocol of this prefix."""
CHECK_S: Final = 10.0
_BURST: Final = 2000
_FRAMES_A_SECOND: Final = 100


@router.websocket("/v1/feed")
async def follow(websocket: WebSocket) -> None:
    """Serve one client until it leaves."""
    feed: Feed | None = getattr(websocket.app.state, "feed", None)
    try:
        if feed is None:
            raise Problem(UNAVAILABLE, "this process serves no feed")
        principal = await _admitted(feed, websocket)
    except Problem as refused:
        await websocket.send_denial_response(refused.response())
        return
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
    connection = Connection(feed.hub, principal)
    connection.open(lambda on_ready: open_wire(websocket.scope, websocket.send, on_ready))
    feed.hub.connections.add(connection)
    try:
        await _Listener(feed, connection).listen(websocket)
    finally:
        feed.hub.connections.discard(connection)
        connection.end()


@router.get("/asyncapi.json", include_in_schema=False)
async def describe() -> Response:
    """Return the AsyncAPI document of the feed."""
    return Response(asyncapi.document_json(), media_type="application/json")


async def _admitted(feed: Feed, websocket: WebSocket) -> Principal:
    """Return who connects; raises Problem for a page of another site, and for a bad token."""
    origin = websocket.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != websocket.headers.get("host"):
        raise Problem(FOREIGN_ORIGIN, f"a page of {origin} may not open a feed here")
    return await feed.admit(_token(websocket.headers, websocket.scope.get("subprotocols", [])))


def _token(headers: Headers, offered: list[str]) -> str | None:
    """Return the token of a client, from its header or from the subprotocols it offers."""
    for one in offered:
        if one.startswith(_BEARER):
            return one.removeprefix(_BEARER)
    return bearer(headers.get("authorization"))


class _Listener:
    """Takes the frames of one client, at a bounded rate, and ends it with its token."""

    def __init__(self, feed: Feed, connection: Connection) -> None:
        self._feed = feed
        self._connection = connection
        self._ending: asyncio.TimerHandle | None = None
        self._allowance = float(_BURST)
        self._asked_at = time.monotonic()

    async def listen(self, websocket: WebSocket) -> None:
        """Take frames until the client leaves."""
        self._end_with_token()
        checking = asyncio.create_task(self._keep_checking())
        try:
            while (message := await websocket.receive())["type"] != "websocket.disconnect":
                if not self._is_allowed():
                    self._connection.close(TOO_FAST, "too many frames at once")
                elif (text := message.get("text")) is not None:
                    await self._take(text)
                else:
                    detail = "a binary frame; expected text"
                    self._connection.fail(None, problem(INVALID_REQUEST, detail))
        finally:
            checking.cancel()
            if self._ending is not None:
                self._ending.cancel()

    async def _keep_checking(self) -> None:
        """End what is not allowed any more: an account may be moved to another portfolio."""
        connection = self._connection
        while True:
            await asyncio.sleep(CHECK_S)
            if connection.principal.portfolios:
                told = {one.account for one in connection.subscriptions.values()}
                for account in filter(None, told):
                    await self._feed.learn(connection.principal, account)
                connection.check_access()

    def _is_allowed(self) -> bool:
        now = time.monotonic()
        gained = (now - self._asked_at) * _FRAMES_A_SECOND
        self._asked_at = now
        self._allowance = min(_BURST, self._allowance + gained) - 1
        return self._allowance > 0

    async def _take(self, text: str) -> None:
        connection = self._connection
        try:
            frame = read_frame(text)
        except BadFrame as bad:
            connection.fail(bad.id, bad.problem)
            return
        match frame:
            case Subscribe():
                if frame.account is not None:
                    await self._feed.learn(connection.principal, frame.account)
                connection.subscribe(frame)
                is_taken = frame.id in connection.subscriptions
                self._feed.record(connection.principal, frame.topic, frame.account, taken=is_taken)
            case Unsubscribe():
                connection.unsubscribe(frame)
            case Authenticate():
                await self._authenticate(frame.token)

    async def _authenticate(self, token: str) -> None:
        """Go on with a newer token of the same subject."""
        connection = self._connection
        try:
            principal = await self._feed.admit(token)
        except Problem as refused:
            connection.fail(None, problem(refused.kind, refused.detail))
            return
        if principal.subject != connection.principal.subject:
            detail = "the token is another subject's; open another connection for it"
            connection.fail(None, problem(UNAUTHENTICATED, detail))
            return
        connection.identify(principal)
        self._end_with_token()

    def _end_with_token(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        ends = self._connection.principal.expires_at
        if ends is not None:
            loop = asyncio.get_running_loop()
            close = self._connection.close
            self._ending = loop.call_later(
                max(0.0, ends - time.time()), close, TOKEN_ENDED, "the token has ended"
            )
