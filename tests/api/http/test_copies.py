"""Copies on disk of whole tables: an export from one is the table, whatever has changed since."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from api.http.copies import FOLDER, Copies, Note
from tests.api.http.server import Server, deal, read_at


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables of any length have copies, of batches of a few rows."""
    monkeypatch.setattr("api.http.copies.LEAST_ROWS", 1)
    monkeypatch.setattr("api.http.stored.LEAST_ROWS", 1)
    monkeypatch.setattr("api.http.stored._COPIED_BYTES", 1_000)
    monkeypatch.setattr("api.http.joined._ROWS", 7)


def _copies(server: Server) -> list[Path]:
    return sorted((server.settings.home / FOLDER).glob("*.arrow"))


def _exported(api: httpx.Client, path: str) -> pa.Table:
    answer = api.get(path, params={"format": "arrow"})
    assert answer.status_code == 200, answer.text
    return pa.ipc.open_stream(answer.content).read_all()


def _paged(api: httpx.Client, path: str) -> pa.Table:
    """What no copy has a part in."""
    answer = api.get(path, params={"format": "arrow", "limit": 10_000})
    return pa.ipc.open_stream(answer.content).read_all()


def _tell(api: httpx.Client, path: str, body: dict[str, Any]) -> None:
    answer = api.post(path, json=body)
    assert answer.status_code == 201, answer.text
    path = f"/v1/accounts/{body['account']}/deals"
    read_at(api, path, answer.headers["Daybook-Position"], limit=1)


def _filled(api: httpx.Client, account: str, rows: int = 40) -> str:
    commands = []
    for number in range(10, 10 + rows):
        data = deal(account, f"D{number}", price=f"{number}.25")
        about = {name: data.pop(name) for name in ("account", "event_time")}
        told = {"command_id": f"{account}{number}", "type": "RecordDeal", **about, "data": data}
        commands.append(told)
    answer = api.post("/v1/commands", json=commands)
    assert answer.status_code == 200
    path = f"/v1/accounts/{account}/deals"
    read_at(api, path, answer.headers["Daybook-Position"], limit=1)
    return path


def _is_used(api: httpx.Client, server: Server, path: str) -> bool:
    """Export, and tell whether that read the copy there was and made none."""
    (before,) = _copies(server)
    os.utime(before, (0, 0))
    inode = before.stat().st_ino
    assert _exported(api, path).equals(_paged(api, path))
    (after,) = _copies(server)
    return after.stat().st_ino == inode and after.stat().st_mtime > 0


@pytest.fixture(autouse=True)
def nothing_copied(open_server: Server) -> None:
    for path in _copies(open_server):
        path.unlink()


def test_a_copy_and_what_changed_since_are_the_table(
    api: httpx.Client, open_server: Server, small: None
) -> None:
    path = _filled(api, "K1")
    assert _exported(api, path).equals(_paged(api, path))
    assert _is_used(api, open_server, path)
    for number in ("00", "225", "99"):  # before all, in between, after all
        _tell(api, "/v1/deals", deal("K1", f"D{number}"))
        assert _is_used(api, open_server, path), number
    _tell(api, "/v1/deals/D30/bust", {"account": "K1", "event_time": "2024-02-01T00:00:00Z"})
    assert _is_used(api, open_server, path)
    assert "busted" in _exported(api, path)["status"].to_pylist()


def test_a_scale_is_the_least_one_whatever_a_copy_had(
    api: httpx.Client, open_server: Server, small: None
) -> None:
    path = _filled(api, "K2")
    assert _exported(api, path).schema.field("price").type.scale == 2
    _tell(api, "/v1/deals", deal("K2", "D50", price="1.12345"))
    found = _exported(api, path)
    assert found.schema.field("price").type.scale == 5
    assert found.equals(_paged(api, path))
    correction = deal("K2", "D50", price="1.5")
    del correction["deal_id"]
    _tell(api, "/v1/deals/D50/correct", correction)
    found = _exported(api, path)
    assert found.schema.field("price").type.scale == 2
    assert found.equals(_paged(api, path))


def test_many_changes_renew_the_copy(
    api: httpx.Client, open_server: Server, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.stored._RENEWED_FROM", 2)
    path = _filled(api, "K3")
    _exported(api, path)
    _tell(api, "/v1/deals", deal("K3", "D90"))
    assert _is_used(api, open_server, path)
    _tell(api, "/v1/deals", deal("K3", "D91"))
    assert not _is_used(api, open_server, path)
    assert _is_used(api, open_server, path)


def test_parquet_of_a_copy_is_the_table(
    api: httpx.Client, open_server: Server, small: None, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    path = _filled(api, "K4")
    _exported(api, path)
    _tell(api, "/v1/deals", deal("K4", "D225"))
    file = tmp_path / "deals.parquet"
    file.write_bytes(api.get(path, params={"format": "parquet"}).content)
    assert pq.read_table(file).equals(_paged(api, path))


def test_what_asks_for_less_than_an_account_is_read_from_the_store(
    api: httpx.Client, open_server: Server, small: None
) -> None:
    path = _filled(api, "K5")
    for told in ({"instrument": "AAPL"}, {"from": "2024-01-01"}, {"to": "2030-01-01"}):
        content = api.get(path, params={"format": "arrow", **told}).content
        assert pa.ipc.open_stream(content).read_all().equals(_paged(api, path))
    assert not _copies(open_server)


def test_a_damaged_copy_is_made_anew(api: httpx.Client, open_server: Server, small: None) -> None:
    path = _filled(api, "K6")
    for content in (b"", b"ARROW1", b"\x00" * 4_096):
        _exported(api, path)
        (copy,) = _copies(open_server)
        copy.write_bytes(content)
        assert not _is_used(api, open_server, path), content
        assert _is_used(api, open_server, path), content


@pytest.mark.parametrize("field", ["made_of", "digest"])
def test_a_copy_of_something_else_is_made_anew(
    field: str, api: httpx.Client, open_server: Server, small: None
) -> None:
    path = _filled(api, f"K7{field}")
    _exported(api, path)
    (copy,) = _copies(open_server)
    told = pa.ipc.open_file(pa.OSFile(str(copy))).read_all()
    ((key, text),) = told.schema.metadata.items()
    noted = told.slice(0, 3).replace_schema_metadata(
        {key: json.dumps(json.loads(text) | {field: "of another"})}
    )
    with pa.OSFile(str(copy), "wb") as file, pa.ipc.new_file(file, noted.schema) as writer:
        writer.write(noted)
    assert not _is_used(api, open_server, path)


def test_an_export_that_is_left_leaves_nothing_behind(
    api: httpx.Client, open_server: Server, small: None
) -> None:
    path = _filled(api, "K8")
    copies = open_server.services.copies
    answer = api.get(path, params={"format": "arrow"})
    schema = pa.ipc.open_stream(answer.content).schema

    def batches() -> Any:
        yield schema.empty_table()
        raise AssertionError("nobody asks for it")

    kept = copies.kept("left", Note("", 0, "", {}), schema, batches())
    next(kept)
    kept.close()
    assert [one.suffix for one in (open_server.settings.home / FOLDER).iterdir()] == [".arrow"]


def test_a_disk_that_takes_no_copy_fails_no_export(
    api: httpx.Client, open_server: Server, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _filled(api, "K9")
    file = open_server.settings.home / "a-file"
    file.touch()
    monkeypatch.setattr(open_server.services, "copies", Copies(file))
    assert _exported(api, path).equals(_paged(api, path))


def test_copies_take_no_more_room_than_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.copies.LEAST_ROWS", 1)
    copies, schema = Copies(tmp_path), pa.schema([("deal_id", pa.string())])
    table = pa.table({"deal_id": ["D1"]})

    def keep(name: str) -> None:
        list(copies.kept(name, Note("x", 1, "", {}), schema, (one for one in [table])))

    keep("first")
    size = (tmp_path / FOLDER / "first.arrow").stat().st_size
    monkeypatch.setattr("api.http.copies.MOST_BYTES", 2 * size)
    os.utime(tmp_path / FOLDER / "first.arrow", (1, 1))
    keep("second")
    os.utime(tmp_path / FOLDER / "second.arrow", (2, 2))
    assert copies.find("first", "x", 1) is not None  # used: it is the younger one now
    keep("third")
    assert sorted(one.stem for one in (tmp_path / FOLDER).iterdir()) == ["first", "third"]
    assert (tmp_path / FOLDER).stat().st_mode & 0o077 == 0
