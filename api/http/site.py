"""The pages: the dashboard where it was built, else one that says where things are.

All of it is read and packed once, at start. So a page and its parts are of one build, whatever is
built beside a running server; what is built later is served from the next start on.
"""

import gzip
import mimetypes
from importlib.resources import files
from pathlib import Path
from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.http.formats import is_current, packs, tag
from api.http.problems import NOT_FOUND, Problem

DASHBOARD: Final = Path(__file__).parents[1] / "dashboard" / "dist"
_INDEX: Final = "index.html"
_ASSETS: Final = "assets/"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_AT_ONCE: Final = "no-cache"


class _File(Struct, frozen=True):
    """A file as it is sent: plain, and packed where that makes it smaller."""

    content: bytes
    packed: bytes | None
    media_type: str
    headers: dict[str, str]


def site_routes(folder: Path = DASHBOARD) -> list[BaseRoute]:
    """Return the routes of the pages; `folder` is where the dashboard is, if it was built."""
    known = _files_of(folder)
    if _INDEX not in known:
        known = {_INDEX: _file(_INDEX, (files("api.http") / "page.html").read_bytes())}

    async def page(request: Request) -> Response:
        request.state.route = "/"
        found = known.get(request.path_params.get("name") or _INDEX)
        if found is None:
            return Problem(NOT_FOUND, "there is nothing here").response()
        return _answer(request, found)

    return [
        Route("/", page, methods=["GET"], name="page"),
        Route("/{name:path}", page, methods=["GET"], name="file"),
    ]


def _files_of(folder: Path) -> dict[str, _File]:
    """Return the files below a folder by their path: only what is there at start is ever sent."""
    if not folder.is_dir():
        return {}
    named = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    return {name: _file(name, path.read_bytes()) for name, path in named.items()}


def _file(name: str, content: bytes) -> _File:
    packed = gzip.compress(content, 9, mtime=0)
    headers = {
        "Cache-Control": _FOR_EVER if name.startswith(_ASSETS) else _AT_ONCE,
        "ETag": tag(content),
        "Vary": "Accept-Encoding",
    }
    return _File(
        content,
        packed if len(packed) < len(content) else None,
        mimetypes.guess_type(name)[0] or "application/octet-stream",
        headers,
    )


def _answer(request: Request, found: _File) -> Response:
    if is_current(request, found.headers["ETag"]):
        return Response(None, 304, found.headers)
    if found.packed is None or not packs(request):
        return Response(found.content, 200, found.headers, found.media_type)
    headers = {**found.headers, "Content-Encoding": "gzip"}
    return Response(found.packed, 200, headers, found.media_type)
