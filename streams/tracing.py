"""Lines that follow each command through every process, for who sets DAYBOOK_LOG_LEVEL=debug.

A line says what has become of a command, under its id and its correlation id: asked, taken,
decided, written, read back, answered, told, projected. Where nobody listens a call costs a look
whether somebody does, once for any number of commands.
"""

import logging
from collections.abc import Iterable
from typing import Any

from domain.commands import Request
from schemas import codec
from schemas.codec import Undecodable
from streams.answers import Answer
from streams.log import TopicPartition

_log = logging.getLogger(__name__)


def is_traced() -> bool:
    """Tell whether somebody listens."""
    return _log.isEnabledFor(logging.DEBUG)


def trace_requests(step: str, requests: Iterable[Any], **told: Any) -> None:
    """Log a step of commands; what is asked beside them is passed over."""
    if not is_traced():
        return
    for one in requests:
        if isinstance(one, Request):
            _trace(step, one.command_id, one.correlation_id, told)


def trace_answers(step: str, told: Iterable[tuple[Request, Answer]]) -> None:
    """Log what commands came to."""
    if not is_traced():
        return
    for request, answer in told:
        about = {"status": answer.status, "reason": answer.reason, "position": answer.position}
        _trace(step, request.command_id, request.correlation_id, about)


def trace_values(step: str, place: TopicPartition, values: Iterable[tuple[int, bytes]]) -> None:
    """Log a step of the commands that records of a partition answer, by offset and value.

    Records of the log's own are passed over.
    """
    if not is_traced():
        return
    prefix = "" if place[0] == "events" else f"{place[0]}/"
    for offset, value in values:
        try:
            envelope = codec.envelope(value)
        except Undecodable:
            continue  # told by whoever reads it
        if envelope.command_id:
            about = {"type": envelope.type, "position": f"{prefix}{place[1]}:{offset}"}
            _trace(step, envelope.command_id, envelope.correlation_id, about)


def _trace(step: str, command_id: str, correlation_id: str | None, told: dict[str, Any]) -> None:
    about = {"command_id": command_id, "correlation_id": correlation_id, **told}
    _log.debug(step, extra=about)
