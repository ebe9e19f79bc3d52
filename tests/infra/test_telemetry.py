"""Logs as programs read them, without secrets; metrics as Prometheus fetches them."""

import io
import json
import logging
import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import Counter

from infra.errors import ServerUnavailable
from infra.telemetry import (
    correlated,
    get_logger,
    new_registry,
    start_logging,
    start_metrics_server,
)

Lines = Callable[[], list[dict[str, Any]]]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    logger = logging.getLogger()
    kept, level = list(logger.handlers), logger.level
    yield logger
    start_logging()
    logger.handlers[:] = kept
    logger.setLevel(level)


@pytest.fixture
def lines(root: logging.Logger) -> Lines:
    """What has been logged."""
    stream = io.StringIO()
    start_logging(stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_what_was_told(lines: Lines) -> None:
    get_logger("streams.x").info("caught up", partition=3, records=12)
    logging.getLogger("streams.y").error("%s halted", "cash")
    first, second = lines()
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "caught up",
        "partition": 3,
        "records": 12,
        "level": "info",
        "logger": "streams.x",
    }
    assert (second["event"], second["level"]) == ("cash halted", "error")


def test_the_correlation_id_is_on_every_line_of_its_block(lines: Lines) -> None:
    with correlated("c-1", command_id="7"):
        get_logger("streams.x").info("inside")
        logging.getLogger("streams.y").warning("inside as well")
    get_logger("streams.x").info("outside")
    told = [(line.get("correlation_id"), line.get("command_id")) for line in lines()]
    assert told == [("c-1", "7"), ("c-1", "7"), (None, None)]


def test_what_a_line_tells_itself_goes_before_what_its_block_does(lines: Lines) -> None:
    with correlated("c-1", request_id="r-1"):
        get_logger("streams.x").info("of another", correlation_id="c-2")
    (line,) = lines()
    assert (line["correlation_id"], line["request_id"]) == ("c-2", "r-1")


def test_secrets_are_never_logged(lines: Lines) -> None:
    logger = get_logger("streams.x")
    try:
        raise RuntimeError("no session at postgresql://me:hunter2@host/db")
    except RuntimeError:
        logger.exception("failed with sasl_password=hunter2", url="redis://:hunter2@host:1/0")
    logger.info("told", api_key="hunter2", headers={"Authorization": "hunter2", "n": 1})
    logger.info("Bearer hunter2.abc", urls=["kafka://u:hunter2@h:1/n"], error=ValueError("a:b@c"))
    assert "hunter2" not in json.dumps(lines())
    assert "postgresql://me:***@host/db" in lines()[0]["exception"]
    assert lines()[1]["headers"] == {"Authorization": "***", "n": 1}
    assert lines()[2]["error"] == "a:b@c"


def test_on_a_terminal_lines_are_for_people(root: logging.Logger) -> None:
    stream = Terminal()
    start_logging(stream)
    get_logger("streams.x").warning("halted", partition=3)
    assert "halted" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_debug_lines_and_libraries_are_not_heard(lines: Lines) -> None:
    get_logger("streams.x").debug("too much")
    logging.getLogger("aiokafka").info("chatter")
    assert lines() == []


def test_details_are_heard_by_who_asks_for_them(root: logging.Logger) -> None:
    stream = io.StringIO()
    start_logging(stream, level="debug")
    get_logger("streams.x").debug("a detail")
    assert "a detail" in stream.getvalue()
    start_logging(stream, level="error")
    get_logger("streams.x").warning("no fault")
    assert "no fault" not in stream.getvalue()


def test_metrics_are_served_until_closed() -> None:
    registry = new_registry()
    Counter("seen", "Things seen.", registry=registry).inc(3)
    server = start_metrics_server(0, registry)
    url = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(url) as answer:
        body = answer.read().decode()
    assert "seen_total 3.0" in body
    assert "process_resident_memory_bytes" in body
    with pytest.raises(ServerUnavailable, match=str(server.port)):
        start_metrics_server(server.port, registry)
    server.close()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0
