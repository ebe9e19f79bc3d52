"""Which format an answer has, and how it is sent: with a tag, packed, piece by piece."""

import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator
from typing import Final, Literal, cast

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.http.problems import NOT_ACCEPTABLE, Problem
from api.tables import MEDIA_TYPES

Format = Literal["json", "csv", "arrow", "parquet"]
_BY_TYPE: Final = {text.partition(";")[0]: name for name, text in MEDIA_TYPES.items()}
_PACKED_FROM: Final = 1_024
_LEVEL: Final = 4
_VARY: Final = "Accept, Accept-Encoding, Authorization"


def chosen_format(request: Request, told: str | None) -> Format:
    """Return the format asked for, by parameter or by Accept; raises Problem for none we have."""
    if told is not None:
        return cast("Format", told)
    accept = request.headers.get("accept")
    if accept is None or accept == "*/*":
        return "json"
    best: tuple[float, Format] | None = None
    for part in accept.split(","):
        media_type, *options = (one.strip().lower() for one in part.split(";"))
        quality = next((_quality(one[2:]) for one in options if one.startswith("q=")), 1.0)
        found = _matching(media_type)
        if found is not None and quality > 0 and (best is None or quality > best[0]):
            best = quality, found
    if best is None:
        given = ", ".join(_BY_TYPE)
        raise Problem(NOT_ACCEPTABLE, f"Accept: expected one of {given}", field="Accept")
    return best[1]


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _matching(media_type: str) -> Format | None:
    if media_type in ("*/*", "application/*"):
        return "json"
    if media_type == "text/*":
        return "csv"
    return cast("Format | None", _BY_TYPE.get(media_type))


def tag(*parts: bytes | str) -> str:
    """Return the ETag of content: weak, because packed and plain it is the same."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\x00")
    return f'W/"{digest.hexdigest()}"'


def is_current(request: Request, etag: str) -> bool:
    """Tell whether the asker has this content already."""
    told = request.headers.get("if-none-match")
    if told is None:
        return False
    return told.strip() == "*" or etag in (one.strip() for one in told.split(","))


def packs(request: Request) -> bool:
    """Tell whether the asker takes gzip."""
    for part in request.headers.get("accept-encoding", "").split(","):
        name, _, options = part.strip().lower().partition(";")
        if name in ("gzip", "*"):
            return _quality(options.strip().removeprefix("q=") or "1") > 0
    return False


def whole(
    request: Request, content: bytes, chosen: Format, etag: str, headers: dict[str, str]
) -> Response:
    """Return an answer that is in memory, or 304 where the asker has it."""
    headers = {**headers, "ETag": etag, "Vary": _VARY, "Cache-Control": "private, no-cache"}
    if is_current(request, etag):
        return Response(None, 304, headers)
    if len(content) >= _PACKED_FROM and chosen != "parquet" and packs(request):
        headers["Content-Encoding"] = "gzip"
        content = gzip.compress(content, _LEVEL, mtime=0)
    return Response(content, 200, headers, media_type=MEDIA_TYPES[chosen])


def streamed(
    request: Request,
    pieces: AsyncIterator[bytes],
    chosen: Format,
    etag: str,
    headers: dict[str, str],
) -> Response:
    """Return an answer that is sent piece by piece, as it is made."""
    headers = {**headers, "ETag": etag, "Vary": _VARY, "Cache-Control": "private, no-cache"}
    if chosen in ("json", "csv") and packs(request):
        headers["Content-Encoding"] = "gzip"
        pieces = _packed(pieces)
    return StreamingResponse(pieces, 200, headers, media_type=MEDIA_TYPES[chosen])


async def _packed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(1, wbits=31)
    async for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
