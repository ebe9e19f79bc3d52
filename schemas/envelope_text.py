"""Envelopes written out from parts that many have in common, byte for byte as `encode` has them.

Most of an envelope's text is that of the one before it: the stream, who asks, from which file, what
was read and assumed. A property compares the two ways.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from msgspec.json import Encoder

from domain.commands import Request
from schemas.registry import CURRENT_VERSIONS

_ENCODE: Final = Encoder().encode
_MOST: Final = 4096


def value_of(
    request: Request,
    data: bytes,
    *,
    event_id: str,
    event_type: str,
    owner: str,
    seq: int,
    term: int,
    recorded_time: str,
    command_hash: str,
    code: str,
    basis: str,
    flags: tuple[str, ...],
    prev_hash: str,
) -> bytes:
    """Return the value of the record that a command comes to, `data` being its event as JSON.

    `owner` is the envelope's field that names the stream, `basis` what `basis_text` returns.
    """
    source = request.source
    told = "" if source is None else f"{_file(source.digest)}{source.line}}}"
    head = (
        f'{{"id":{_text(event_id)}{_kind(event_type, owner, request.key)},"seq":{seq}'
        f',"term":{term},"event_time":{_text(request.event_time)},"recorded_time":"{recorded_time}"'
        f"{_command(request.command_id, command_hash)}"
        f"{_asker(request.correlation_id, request.causation_id, request.actor, code)}"
        f'{basis}{told}{_flags(flags)},"prev_hash":"{prev_hash}","data":'
    )
    return b"".join((head.encode(), data, b"}"))


def basis_text(basis: Mapping[str, str]) -> str:
    """Return the text of an envelope's basis; none where nothing was read."""
    return f',"basis":{_ENCODE(basis).decode()}' if basis else ""


def _text(text: str) -> str:
    return _ENCODE(text).decode()


def _command(command_id: str, command_hash: str) -> str:
    told = f',"command_id":{_text(command_id)}' if command_id else ""
    return f'{told},"command_hash":"{command_hash}"' if command_hash else told


@lru_cache(_MOST)
def _kind(event_type: str, owner: str, key: str) -> str:
    version = CURRENT_VERSIONS[event_type]
    return f',"type":"{event_type}","version":{version},"{owner}":{_text(key)}'


@lru_cache(_MOST)
def _asker(correlation_id: str | None, causation_id: str | None, actor: str, code: str) -> str:
    told = ""
    if correlation_id is not None:
        told += f',"correlation_id":{_text(correlation_id)}'
    if causation_id is not None:
        told += f',"causation_id":{_text(causation_id)}'
    if actor:
        told += f',"actor":{_text(actor)}'
    return f'{told},"code":{_text(code)}' if code else told


@lru_cache(_MOST)
def _file(digest: str) -> str:
    return f',"source":{{"digest":{_text(digest)},"line":'


@lru_cache(_MOST)
def _flags(flags: tuple[str, ...]) -> str:
    return f',"flags":{_ENCODE(flags).decode()}' if flags else ""
