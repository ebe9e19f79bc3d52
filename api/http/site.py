"""The pages: the dashboard where it was built, else one that says where things are."""

import mimetypes
from importlib.resources import files
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from api.http.problems import NOT_FOUND, Problem

DASHBOARD: Final = Path(__file__).parents[1] / "dashboard" / "dist"
_INDEX: Final = "index.html"
_FOR_EVER: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_AT_ONCE: Final = {"Cache-Control": "no-cache"}
_ASSETS: Final = "assets/"


def site_routes(folder: Path = DASHBOARD) -> list[BaseRoute]:
    """Return the routes of the pages. The dashboard's files are listed once, at start."""
    built = _files_of(folder)

    async def page(request: Request) -> Response:
        request.state.route = "/"
        name = request.path_params.get("name") or _INDEX
        if name in built:
            headers = _FOR_EVER if name.startswith(_ASSETS) else _AT_ONCE
            media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return FileResponse(built[name], headers=headers, media_type=media_type)
        if name == _INDEX:
            return Response(_plain_page(), headers=_AT_ONCE, media_type="text/html")
        return Problem(NOT_FOUND, "there is nothing here").response()

    return [
        Route("/", page, methods=["GET"], name="page"),
        Route("/{name:path}", page, methods=["GET"], name="file"),
    ]


def _files_of(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their path: only what is listed is ever sent."""
    if not (folder / _INDEX).is_file():
        return {}
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _plain_page() -> bytes:
    return (files("api.http") / "page.html").read_bytes()
