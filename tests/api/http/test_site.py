"""The pages: sent from memory, packed where that is taken, and not again where they are known."""

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from api.http.site import site_routes

PAGE = "<!doctype html><title>Daybook</title>" + "<p>row</p>" * 500
SCRIPT = "let rows = 0;" * 500
NAME = "assets/index-Ab12.js"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A dashboard as it is built: a page, a script under a name of its own, and a small picture."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / NAME).write_text(SCRIPT)
    (folder / "icon.svg").write_text("<svg/>")
    return folder


class Site:
    """A server of a folder that begins now. It is asked for nothing that a test does not ask."""

    def __init__(self, folder: Path) -> None:
        self._app = Starlette(routes=site_routes(folder))

    def get(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        """Ask for a path; names of headers are written with underscores."""
        told = {name.replace("_", "-"): text for name, text in headers.items()}

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                return await client.request(
                    method, path, headers={"Accept-Encoding": "identity", **told}
                )

        return asyncio.run(ask())


def test_the_page_is_asked_for_each_time_and_its_parts_once(dist: Path) -> None:
    site = Site(dist)
    page, script = site.get("/"), site.get(f"/{NAME}")
    assert (page.text, script.text) == (PAGE, SCRIPT)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert page.headers["Cache-Control"] == "no-cache"
    assert script.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert site.get("/index.html").headers["ETag"] == page.headers["ETag"]


def test_what_is_known_is_not_sent_again(dist: Path) -> None:
    site = Site(dist)
    for path in ("/", f"/{NAME}", "/icon.svg"):
        etag = site.get(path).headers["ETag"]
        again = site.get(path, If_None_Match=f'"other", {etag}')
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == etag
        assert site.get(path, If_None_Match='"other"').status_code == 200


def test_it_is_packed_for_those_who_take_it(dist: Path) -> None:
    site = Site(dist)
    for path in ("/", f"/{NAME}"):
        plain = site.get(path)
        answer = site.get(path, Accept_Encoding="br, gzip")
        assert answer.headers["Content-Encoding"] == "gzip"
        assert int(answer.headers["Content-Length"]) < len(plain.content) / 2
        assert answer.content == plain.content
        assert "Content-Encoding" not in plain.headers
        assert answer.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["ETag"] == plain.headers["ETag"]
    small = site.get("/icon.svg", Accept_Encoding="gzip")
    assert "Content-Encoding" not in small.headers, "packed it would be larger"
    assert site.get(f"/{NAME}", "HEAD").headers["Content-Length"] == str(len(SCRIPT))


def test_a_page_and_its_parts_are_of_one_build(dist: Path) -> None:
    running = Site(dist)
    (dist / NAME).unlink()
    (dist / "assets/index-Cd34.js").write_text("other")
    (dist / "index.html").write_text("newer")
    assert (running.get("/").text, running.get(f"/{NAME}").text) == (PAGE, SCRIPT)
    started = Site(dist)
    assert started.get("/").text == "newer"
    assert started.get("/assets/index-Cd34.js").text == "other"
    assert started.get(f"/{NAME}").status_code == 404


def test_nothing_else_is_ever_sent(dist: Path) -> None:
    (dist.parent / "secret").write_text("secret")
    (dist / "link.txt").symlink_to(dist.parent / "secret")
    site = Site(dist)
    for path in ("/nothing", "/assets", "/assets/", "/link.txt", "/..%2fsecret", "/%2e%2e/secret"):
        answer = site.get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:daybook:problem:not-found")


def test_without_a_dashboard_a_page_says_where_things_are(tmp_path: Path) -> None:
    site = Site(tmp_path / "dist")
    page = site.get("/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "/openapi.json" in page.text
    assert site.get("/", If_None_Match=page.headers["ETag"]).status_code == 304
    assert site.get("/icon.svg").status_code == 404
