"""The outermost ring: what holds for every request and every socket, before any route is found."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import uuid_utils
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.metrics import Metrics, SlowLog
from api.http.problems import (
    FOREIGN_ORIGIN,
    INTERNAL,
    INVALID_REQUEST,
    MISDIRECTED,
    Problem,
    problem_of,
)
from infra.telemetry import correlated

_log = logging.getLogger(__name__)
SEND_S: Final = 30.0
"""How long a client may take for one piece of an answer."""
LONGEST_PATH: Final = 4_096
LONGEST_QUERY: Final = 16_384
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_PORT: Final = re.compile(r":\d{1,5}$")
_UNTRUSTED_SITES: Final = ("cross-site", "same-site")
_CONTENT: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": _CONTENT,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_RAW_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class Edge:
    """Wraps the application. Answers whatever goes wrong with a problem, and never with a trace."""

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str], metrics: Metrics, slow_s: float
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._metrics = metrics
        self._slow_s = slow_s
        self._slow = SlowLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        # The first of each name: taken once, since Starlette's look through all for each name.
        told = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
        refusal = self._refusal(scope, told)
        if scope["type"] == "http":
            exchange = _Exchange(scope, told, self._metrics, self._slow_s, self._slow, send)
            await exchange.run(self._app, receive, refusal)
        elif refusal is not None:
            await _refuse_socket(refusal, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, told: Mapping[bytes, str]) -> Problem | None:
        """Return why a request is not even looked at.

        A page of another site that a browser shows must not reach a server on this machine, under
        its own name (DNS rebinding) or under ours.
        """
        host = told.get(b"host")
        how_many = sum(name == b"host" for name, _ in scope["headers"])
        if host is None or how_many != 1 or not self._is_ours(host):
            return Problem(MISDIRECTED, "Host: expected a name of this server")
        origin = told.get(b"origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return Problem(FOREIGN_ORIGIN, "Origin: expected none, or this server's own")
        if told.get(b"sec-fetch-site") in _UNTRUSTED_SITES and not _is_navigation(told):
            return Problem(FOREIGN_ORIGIN, "Sec-Fetch-Site: expected same-origin")
        if len(scope["path"]) > LONGEST_PATH or len(scope["query_string"]) > LONGEST_QUERY:
            return Problem(INVALID_REQUEST, "the address is too long")
        return None

    def _is_ours(self, host: str) -> bool:
        name = _PORT.sub("", host).lower().rstrip(".")
        return name in self._hosts or "*" in self._hosts


def _is_navigation(told: Mapping[bytes, str]) -> bool:
    return told.get(b"sec-fetch-mode") == "navigate" and told.get(b"sec-fetch-dest") == "document"


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        scope: Scope,
        told: Mapping[bytes, str],
        metrics: Metrics,
        slow_s: float,
        slow: SlowLog,
        send: Send,
    ) -> None:
        self._scope = scope
        self._metrics = metrics
        self._slow_s = slow_s
        self._slow = slow
        self._send = send
        self._status = 0
        self._started = time.perf_counter()
        told_id = told.get(b"x-request-id", "")
        self._id = told_id if _REQUEST_ID.fullmatch(told_id) else str(uuid_utils.uuid7())
        trace = _TRACEPARENT.fullmatch(told.get(b"traceparent", ""))
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = self._id
        state["accounts"] = set()
        state["correlation_id"] = trace[1] if trace else self._id

    async def run(self, app: ASGIApp, receive: Receive, refusal: Problem | None) -> None:
        """Have the application answer, or tell a refusal; a fault is answered and logged."""
        self._metrics.under_way.inc()
        with correlated(self._scope["state"]["correlation_id"], request_id=self._id):
            try:
                if refusal is not None:
                    await refusal.response()(self._scope, receive, self._sent)
                    return
                await app(self._scope, receive, self._sent)
            # Nothing narrower: a fault of any kind is answered as a problem, and logged, not shown.
            except Exception as error:
                await self._answer_error(error, receive)
            finally:
                self._metrics.under_way.dec()
                self._count()

    async def _answer_error(self, error: Exception, receive: Receive) -> None:
        problem = problem_of(error)
        if problem is None:
            _log.error("request %s failed", self._id, exc_info=error)
            problem = Problem(INTERNAL, f"it was logged as request {self._id}")
        if self._status:
            raise error  # the answer has begun: all that is left is to break it off
        await problem.response()(self._scope, receive, self._sent)

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            told = message["headers"]
            names = {name for name, _ in told}
            message["headers"] = [
                *told,
                *(header for header in _RAW_HEADERS if header[0] not in names),
                (b"x-request-id", self._id.encode()),
            ]
            await self._send(message)
            return
        try:
            async with asyncio.timeout(SEND_S):
                await self._send(message)
        except TimeoutError:
            raise ClientStalled from None

    def _count(self) -> None:
        route = self._scope.get("state", {}).get("route", "none")
        taken = time.perf_counter() - self._started
        method = self._scope["method"] if route != "none" else "other"
        self._metrics.count(method, route, self._status, taken)
        if _log.isEnabledFor(logging.DEBUG):
            told = {"method": method, "route": route, "status": self._status, "seconds": taken}
            _log.debug("request answered", extra=told)
        if taken >= self._slow_s:
            self._slow.tell(f"slow request {self._id}: {method} {route} took {taken * 1e3:.0f} ms")


class ClientStalled(Exception):  # noqa: N818 - names what happened
    """A client did not read its answer."""


async def _refuse_socket(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a handshake with the problem, or where the server cannot, close it."""
    if "websocket.http.response" in scope.get("extensions", {}):
        from starlette.websockets import WebSocket

        with contextlib.suppress(RuntimeError):
            await WebSocket(scope, receive, send).send_denial_response(problem.response())
        return
    await send({"type": "websocket.close", "code": 1008, "reason": problem.kind.name})
