"""The WebSocket of the feed, and the document that describes it."""

import asyncio
import logging
import time
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter
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

_log = logging.getLogger(__name__)
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
    if feed is None:
        refused = Problem(UNAVAILABLE, "this process serves no feed")
        await websocket.send_denial_response(refused.response())
        return
    try:
        token = _token(websocket)
        principal = await feed.admit(token)
        give_back = await feed.take_place(principal)
    except Problem as refused:
        if refused.kind.status in (401, 403):
            feed.record_denial(refused.kind.status, _client(websocket))
        await websocket.send_denial_response(refused.response())
        return
    connection = Connection(feed.hub, principal)
    try:
        offered = websocket.scope.get("subprotocols", [])
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        connection.open(lambda on_ready: open_wire(websocket.scope, websocket.send, on_ready))
        feed.hub.connections.add(connection)
        await _Listener(feed, connection, token, _client(websocket)).listen(websocket)
    finally:
        feed.hub.connections.discard(connection)
        connection.end()
        give_back()


@router.get("/asyncapi.json", include_in_schema=False)
async def describe() -> Response:
    """Return the AsyncAPI document of the feed."""
    return Response(asyncapi.document_json(), media_type="application/json")


def _client(websocket: WebSocket) -> str | None:
    return websocket.client.host if websocket.client else None


def _token(websocket: WebSocket) -> str | None:
    """Return the token of a client, from its header or from the subprotocols it offers.

    Raises Problem for a page of another site.
    """
    headers = websocket.headers
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise Problem(FOREIGN_ORIGIN, f"a page of {origin} may not open a feed here")
    for one in websocket.scope.get("subprotocols", []):
        if one.startswith(_BEARER):
            return str(one).removeprefix(_BEARER)
    return bearer(headers.get("authorization"))


class _Listener:
    """Takes the frames of one client, at a bounded rate, and ends it with its token."""

    def __init__(
        self, feed: Feed, connection: Connection, token: str | None, client: str | None
    ) -> None:
        self._feed = feed
        self._connection = connection
        self._token = token
        self._client = client
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
        """End what is not allowed any more: keys are taken out, accounts moved elsewhere."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self._check()
            except Problem as failed:
                _log.warning("what a feed may show cannot be checked, trying again: %s", failed)

    async def _check(self) -> None:
        """Ask anew whether the token is good, and for the portfolios of what is followed."""
        connection, token = self._connection, self._token
        try:
            principal = await self._feed.admit(token)
        except Problem as refused:
            if refused.kind != UNAUTHENTICATED:
                raise
            if token == self._token:  # else a newer one has come meanwhile
                connection.close(TOKEN_ENDED, "the token is no longer good")
            return
        if principal == connection.principal and not principal.portfolios:
            return  # what it may see cannot have changed
        await self._learn(principal)
        if token == self._token:
            # It may be another: a token that came while there were no keys was not looked at.
            connection.identify(principal)
            self._end_with_token()

    async def _learn(self, principal: Principal) -> None:
        """Find out in which portfolios the accounts are that are followed; raises Problem."""
        followed = {one.account for one in self._connection.subscriptions.values()}
        for account in filter(None, followed):
            await self._feed.learn(principal, account)

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
                status = await self._subscribed(frame)
                self._feed.record(connection.principal, frame.topic, frame.account, status)
            case Unsubscribe():
                connection.unsubscribe(frame)
            case Authenticate():
                await self._authenticate(frame.token)

    async def _subscribed(self, frame: Subscribe) -> int:
        """Begin a subscription, or tell why not; return the status that stands for it."""
        connection = self._connection
        try:
            if frame.account is not None:
                await self._feed.learn(connection.principal, frame.account)
        except Problem as failed:
            connection.tell(frame.id, problem(failed.kind, failed.detail))
            return failed.kind.status
        refused = connection.subscribe(frame)
        return 200 if refused is None else refused.status

    async def _authenticate(self, token: str) -> None:
        """Go on with a newer token of the same subject."""
        connection = self._connection
        try:
            principal = await self._feed.admit(token)
            if principal.subject != connection.principal.subject:
                detail = "the token is another subject's; open another connection for it"
                raise Problem(UNAUTHENTICATED, detail)
            await self._learn(principal)
        except Problem as refused:
            if refused.kind == UNAUTHENTICATED:
                self._feed.record_denial(refused.kind.status, self._client)
                connection.fail(None, problem(refused.kind, refused.detail))
            else:
                connection.tell(None, problem(refused.kind, refused.detail))
            return
        self._token = token
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
