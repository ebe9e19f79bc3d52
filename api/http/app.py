"""The application: routes from the table of operations, and what every one of them goes through."""

import asyncio
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from api.http import access_trail, health, later, openapi, reading, trail, writes
from api.http.edge import LONGEST_PATH, Edge
from api.http.feed.routes import router as feed_router
from api.http.operation import Call, Operation
from api.http.problems import (
    FORBIDDEN,
    NOT_FOUND,
    RATE_LIMITED,
    UNKNOWN_ACCOUNT,
    UNKNOWN_PORTFOLIO,
    Problem,
    problem_of,
)
from api.http.security import LOCAL, Principal, bearer
from api.http.services import Services
from api.http.site import site_routes
from domain.identifiers import is_id
from streams.ledger import program_version

ANSWER_S: Final = 30.0
"""How long any answer but a stream may take."""
MOST_RECORDED: Final = 50
"""Accounts of a list of commands that one line of the audit trail names: a line is to be less than
what the trail reads of its end, 64 KiB, also where ids are long and in any script."""


def operations() -> list[Operation]:
    """Return every operation that is answered, as the document tells them."""
    return [
        *reading.operations(),
        *trail.operations(),
        *access_trail.operations(),
        *writes.operations(),
        *health.operations(),
    ]


class Application(FastAPI):
    """FastAPI, in front of whose layers the operations of the table are answered.

    Those layers, and Starlette's under them, are three fifths of what a read costs, and do nothing
    for an operation, which reads its own parameters and answers its own errors. Whatever is no
    operation, or has another method, goes their way.
    """

    def __init__(self, services: Services, table: list[Operation]) -> None:
        super().__init__(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        self.state.services = services
        ring: dict[str, Any] = {
            "hosts": services.options.hosts,
            "metrics": services.metrics,
            "slow_s": services.options.slow_s,
        }
        self.add_middleware(Edge, **ring)
        self._answered = Edge(_answer_operation, **ring)
        paths = dict.fromkeys(operation.path for operation in table)
        self._routes = [_route(path, table, services) for path in paths]
        self.router.routes.extend(self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or socket."""
        if scope["type"] == "http" and (endpoint := self._found(scope)) is not None:
            scope["app"], scope["endpoint"] = self, endpoint
            await self._answered(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _found(self, scope: Scope) -> Any:
        """Return what answers a request, its path taken apart; None for what is no operation."""
        path, method = scope["path"], scope["method"]
        if len(path) > LONGEST_PATH:
            return None
        for route in self._routes:
            found = route.path_regex.match(path)
            if found is not None and method in (route.methods or ()):
                scope["path_params"] = found.groupdict()
                return route.endpoint
        return None


async def _answer_operation(scope: Scope, receive: Receive, send: Send) -> None:
    response = await scope["endpoint"](Request(scope, receive))
    await response(scope, receive, send)


def create_app(services: Services) -> FastAPI:
    """Return the application over running services. It holds no state beside them."""
    table = operations()
    app = Application(services, [*table, *later.operations()])
    app.router.routes.append(_document_route(table))
    app.router.routes.extend(feed_router.routes)
    app.router.routes.extend(site_routes())
    for status in (404, 405):
        app.add_exception_handler(status, _answer_problem)
    return app


def _route(path: str, table: list[Operation], services: Services) -> Route:
    """Return the route of a path, with its methods. Ids hold slashes, so they match any text."""
    by_method: dict[str, Operation] = {one.method: one for one in table if one.path == path}
    if "GET" in by_method:
        by_method["HEAD"] = by_method["GET"]

    async def endpoint(request: Request) -> Response:
        return await _guarded(by_method[request.method], services, request)

    pattern = "/".join(
        part.replace("}", ":path}") if part.startswith("{") else part for part in path.split("/")
    )
    return Route(pattern, endpoint, methods=list(by_method), name=path)


async def _guarded(operation: Operation, services: Services, request: Request) -> Response:
    """Answer a request if its principal may ask; every operation goes through here."""
    request.state.route = operation.path
    principal = LOCAL
    status = 500
    try:
        if operation.scope is not None:
            principal = await services.gate.admit(bearer(request.headers.get("authorization")))
            await _check_allowed(operation, services, request, principal)
        async with asyncio.timeout(ANSWER_S):
            response = await operation.answer(Call(operation, request, services, principal))
        status = response.status_code
        return response
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            raise
        status = problem.kind.status
        return problem.response()
    finally:
        await _audit(operation, services, request, principal, status)


async def _check_allowed(
    operation: Operation, services: Services, request: Request, principal: Principal
) -> None:
    wait_s = await services.limiter.wait_s(principal.subject)
    if wait_s:
        retry = {"Retry-After": str(max(1, round(wait_s)))}
        raise Problem(RATE_LIMITED, "ask less often", headers=retry)
    assert operation.scope is not None
    if not principal.may(operation.scope):
        raise Problem(FORBIDDEN, f"this needs the scope {operation.scope}")
    if operation.owner == "account":
        account = request.path_params["account"]
        # What cannot be is as absent as all that is not there: the store is not asked for it.
        if not (is_id(account) and await services.owns(principal, account)):
            raise Problem(UNKNOWN_ACCOUNT, "there is no such account, or it is not yours")
    elif operation.owner == "portfolio":
        portfolio = request.path_params["portfolio"]
        if not (is_id(portfolio) and await services.owns_portfolio(principal, portfolio)):
            raise Problem(UNKNOWN_PORTFOLIO, "there is no such portfolio, or it is not yours")


async def _audit(
    operation: Operation, services: Services, request: Request, principal: Principal, status: int
) -> None:
    """Record every write, every read where tokens say who reads, and whoever was turned away."""
    if operation.scope is None:
        return
    is_write = operation.method != "GET"
    if not (is_write or services.gate.needs_tokens or status in (401, 403)):
        return
    told: dict[str, Any] = {
        "request_id": request.state.request_id,
        "subject": principal.subject if status != 401 else None,
        "role": principal.role if status != 401 else None,
        "operation": operation.name,
        "path": dict(request.path_params),
        "query": {name: value[:200] for name, value in request.query_params.items()},
        "status": status,
        "client": request.client.host if request.client else None,
    }
    accounts = sorted(request.state.accounts)
    for start in range(0, max(1, len(accounts)), MOST_RECORDED):
        told["accounts"] = accounts[start : start + MOST_RECORDED]
        await services.audit.recorded(**told)


def _document_route(table: list[Operation]) -> Route:
    content = msgspec.json.encode(openapi.document(table, program_version().split()[-1]))

    async def endpoint(request: Request) -> Response:
        request.state.route = "/openapi.json"
        return Response(content, media_type="application/json")

    return Route("/openapi.json", endpoint, methods=["GET"], name="openapi")


async def _answer_problem(_request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    return (problem or Problem(NOT_FOUND, "there is nothing here")).response()
