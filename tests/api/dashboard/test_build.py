"""What may be missing for the dashboard to be left unbuilt, and what may not."""

import json
from pathlib import Path

import pytest

from api.dashboard import build


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that needs nothing and is built by what the test says."""
    if not (build.FOLDER / "node_modules").is_dir():
        pytest.skip("the dashboard is not built here: `make dashboard` says why")
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    return tmp_path


def built_by(page: Path, command: str, needed: dict[str, object] | None = None) -> None:
    wanted = dict.fromkeys(needed or {}, "1.0.0")
    named = {"name": "page", "version": "1.0.0", "dependencies": wanted}
    packages = {"": named} | {f"node_modules/{name}": one for name, one in (needed or {}).items()}
    locked = {**named, "lockfileVersion": 3, "packages": packages}
    (page / "package-lock.json").write_text(json.dumps(locked))
    (page / "package.json").write_text(json.dumps({**named, "scripts": {"build": command}}))


def test_a_page_that_does_not_compile_is_a_failure(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built_by(page, "echo Panel.tsx: no such name && exit 2")
    assert build.main([]) == 1
    assert build.main(["--optional"]) == 1
    assert "not built" in capsys.readouterr().err


def test_what_cannot_be_had_is_excused_where_the_page_is_optional(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = {"version": "1.0.0", "resolved": "http://127.0.0.1:9/away-1.0.0.tgz"}
    built_by(page, "exit 0", needed={"away": away})
    assert (build.main([]), build.main(["--optional"])) == (1, 0)
    assert "npm error" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(page))
    monkeypatch.setattr(build, "LOCK", page / "nothing.lock")
    monkeypatch.setattr(build, "_wheel_npm", lambda: None)
    assert (build.main([]), build.main(["--optional"])) == (1, 0)
    assert "nothing.lock" in capsys.readouterr().err
