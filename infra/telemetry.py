"""Telemetry: logs that people and programs can read, and metrics for Prometheus.

Nothing happens when this is imported. A program calls `start_logging` once; parts take a logger
from `get_logger`, and may as well use the standard library's, whose records look the same.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from threading import Thread
from types import MappingProxyType
from typing import Any, Final, TextIO
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from structlog.stdlib import BoundLogger, ProcessorFormatter

from infra.errors import ServerUnavailable

LOOPBACK: Final = "127.0.0.1"
_HIDDEN: Final = "***"

_SECRET_NAME = re.compile(r"(?i)password|passwd|secret|token|authorization|api_?key|credential")
_URL_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/@]*):[^\s]*@")
_NAMED_SECRET = re.compile(r"(?i)\b((?:sasl_|ssl_)?(?:password|passwd|pwd|secret|token)\s*=\s*)\S+")
_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]+")

Told = MutableMapping[str, Any]
# structlog's own variables take three times as long to set, and each request sets some.
_correlated: ContextVar[Mapping[str, Any]] = ContextVar("correlated", default=MappingProxyType({}))


def start_logging(stream: TextIO | None = None, *, level: str = "info") -> None:
    """Send the process's log to a stream (standard error): lines to read, or JSON off a terminal.

    A second call replaces the first. `level` is the least that is heard (settings.LOG_LEVELS);
    libraries are heard from WARNING on.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(is_terminal=stream.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("api", "streams", "projections", "schemas", "infra", "domain"):
        logging.getLogger(ours).setLevel(level.upper())


def get_logger(name: str) -> BoundLogger:
    """Return the logger of a module: an event in words, its facts by name.

    Names of facts are not those of a log record's own fields, such as `name` and `module`.
    """
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=BoundLogger,
    )
    return logger


@contextlib.contextmanager
def correlated(correlation_id: str, **told: Any) -> Iterator[None]:
    """Put a correlation id, and what else is told, on every line that is logged in a block.

    It follows the tasks that the block starts, and not the threads.
    """
    before = _correlated.set({"correlation_id": correlation_id, **told})
    try:
        yield
    finally:
        _correlated.reset(before)


def _add_correlated(_logger: Any, _method: str, told: Told) -> Told:
    """Add what a block told; a line's own facts go first."""
    for name, value in _correlated.get().items():
        told.setdefault(name, value)
    return told


def redact(_logger: Any, _method: str, told: Told) -> Told:
    """Hide secrets: values whose names say so, and passwords and bearer tokens within texts."""
    for name, value in told.items():
        if _SECRET_NAME.search(name) and value is not None:
            told[name] = _HIDDEN
        else:
            told[name] = _redacted(value)
    return told


def _redacted(value: Any) -> Any:
    match value:
        case str():
            hidden = _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", value)
            return _BEARER.sub(rf"\1{_HIDDEN}", _NAMED_SECRET.sub(rf"\1{_HIDDEN}", hidden))
        case bool() | int() | float() | None:
            return value
        case Mapping():
            return redact(None, "", dict(value))
        case list() | tuple():
            return [_redacted(one) for one in value]
        case _:
            return _redacted(str(value))


def _formatter(*, is_terminal: bool) -> ProcessorFormatter:
    renderer: Any = structlog.processors.JSONRenderer()
    if is_terminal:
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.ExtraAdder(),
            _add_correlated,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            renderer,
        ],
    )


# --- metrics -------------------------------------------------------------------------------------


class MetricsServer:
    """A running /metrics server. `port` is the one it listens on."""

    def __init__(self, server: WSGIServer, thread: Thread) -> None:
        self._server = server
        self._thread = thread
        self.port: int = server.server_port

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def new_registry() -> CollectorRegistry:
    """Return a registry that tells of this process already: its memory, CPU time and files."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def start_metrics_server(
    port: int, registry: CollectorRegistry, address: str = LOOPBACK
) -> MetricsServer:
    """Serve a registry at http://ADDRESS:PORT/metrics, from a thread; port 0 takes a free one.

    Where is logged. Raises ServerUnavailable for a port that cannot be had.
    """
    try:
        server, thread = start_http_server(port, address, registry)
    except (OSError, OverflowError) as error:
        reason = f"{address}:{port}: {error}"
        raise ServerUnavailable("the metrics server", reason, "choose another port") from error
    told = f"http://{address}:{server.server_port}/metrics"
    get_logger(__name__).info("metrics", url=told)
    return MetricsServer(server, thread)
