"""Is the process alive, may it be sent requests, and what does it count."""

from collections import defaultdict
from typing import Any, Final

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from api.http.operation import Call, Operation, Reply
from api.http.problems import Problem, problem_of
from api.wiring import Parts

READY_LAG: Final = 10_000
"""Records behind the log's head from which on a server says that it is not ready."""
_STATUS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"type": "string"}},
}


def operations() -> list[Operation]:
    """Return the operations that look after the server."""
    text = {"type": "string"}
    return [
        Operation(
            name="healthz",
            method="GET",
            path="/healthz",
            summary="The process is alive",
            scope=None,
            answer=_healthz,
            replies={200: Reply("It is.", _STATUS, {"status": "alive"})},
        ),
        Operation(
            name="readyz",
            method="GET",
            path="/readyz",
            summary="The store answers and the read models are current",
            scope=None,
            answer=_readyz,
            replies={
                200: Reply("They are.", _STATUS, {"status": "ready", "projections": []}),
                503: Reply("They are not.", _STATUS, {"status": "behind", "projections": []}),
            },
        ),
        Operation(
            name="metrics",
            method="GET",
            path="/metrics",
            summary="Metrics for Prometheus",
            scope="operate",
            answer=_metrics,
            replies={200: Reply("Metrics as text.", text, "", media_type="text/plain")},
        ),
    ]


async def _healthz(_call: Call) -> Response:
    return Response(b'{"status":"alive"}', media_type="application/json")


async def _readyz(call: Call) -> Response:
    try:
        lags = await call.services.readers.run(_lags)
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            raise
        return _ready(503, "unavailable", [])
    for one in lags:
        call.services.metrics.lag.labels(one["name"]).set(one["lag"])
    if any(one["halted"] for one in lags):
        return _ready(503, "halted", lags)
    if any(one["lag"] > READY_LAG for one in lags):
        return _ready(503, "behind", lags)
    return _ready(200, "ready", lags)


def _ready(status: int, text: str, lags: list[dict[str, Any]]) -> Response:
    content = msgspec.json.encode({"status": text, "projections": lags})
    return Response(content, status, media_type="application/json")


def _lags(parts: Parts) -> list[dict[str, Any]]:
    """Return the lag of each projection over all partitions, and where it is halted, if it is."""
    behind: dict[str, int] = defaultdict(int)
    halted: dict[str, list[str]] = defaultdict(list)
    for lag in parts.projector.status():
        behind[lag.name] += lag.lag
        if lag.halted:
            halted[lag.name].append(f"{lag.topic}/{lag.partition}")
    return [
        {"name": name, "lag": count, "halted": ",".join(halted[name]) or None}
        for name, count in behind.items()
    ]


async def _metrics(call: Call) -> Response:
    try:
        for one in await call.services.readers.run(_lags):
            call.services.metrics.lag.labels(one["name"]).set(one["lag"])
    except Problem:
        pass  # what is counted here is told even when the store cannot be asked
    return Response(
        generate_latest(call.services.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )
