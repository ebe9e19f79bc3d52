"""Records of the audit trail that are appended together, and beside other processes."""

import asyncio
import resource
import time
from pathlib import Path

import msgspec
import pytest

from api.http.audit import AuditTrail, TrailCheck, days, verify_trail


def _requests(folder: Path) -> list[str]:
    (path,) = days(folder)
    return [msgspec.json.decode(line)["request"] for line in path.read_bytes().splitlines()]


def test_what_comes_together_is_one_chain_with_what_others_append(tmp_path: Path) -> None:
    one, other = AuditTrail(tmp_path), AuditTrail(tmp_path)

    async def run() -> None:
        for turn in range(3):
            await asyncio.gather(*(one.recorded(request=f"{turn}/{n}") for n in range(4)))
            assert len(_requests(one.folder)) == 6 * turn + 4, "recorded once it is awaited"
            other.record(request=f"{turn}/other")
            one.record(request=f"{turn}/alone")

    asyncio.run(run())
    one.close()
    other.close()
    assert verify_trail(one.folder) == TrailCheck(lines=18, days=1, fault=None)
    expected = [f"{turn}/{n}" for turn in range(3) for n in (*range(4), "other", "alone")]
    assert _requests(one.folder) == expected


def test_who_gives_up_is_recorded_all_the_same(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)

    async def run() -> None:
        gone = asyncio.create_task(trail.recorded(request="gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await trail.recorded(request="next")
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(run())
    trail.close()
    assert _requests(trail.folder) == ["gone", "next"]


def test_what_cannot_be_recorded_is_told_to_all_of_them(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    trail.folder.write_text("no folder")

    async def run() -> list[BaseException | None]:
        asked = (trail.recorded(request=str(number)) for number in range(2))
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [type(error) for error in asyncio.run(run())] == [FileExistsError, FileExistsError]


def test_a_line_that_was_cut_off_is_told_and_what_follows_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    for number in range(4):
        trail = AuditTrail(tmp_path)
        trail.record(request=str(number))
        trail.close()
        (path,) = days(trail.folder)
        if number in (1, 2):  # the power was lost twice
            path.write_bytes(path.read_bytes()[:-20])
            assert (
                verify_trail(trail.folder).fault
                == f"audit/{path.name}:{number + 1}: no line of a trail"
            )
    torn = (f"audit/{path.name}:2", f"audit/{path.name}:3")
    assert verify_trail(trail.folder) == TrailCheck(lines=4, days=1, fault=None, torn=torn)
    lines = path.read_bytes().splitlines(keepends=True)
    for gone in range(3):
        path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
        assert "the line before it is another" in str(verify_trail(trail.folder).fault)


def test_what_is_not_written_whole_is_not_there_at_all(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path)
    trail.record(request="first")
    (path,) = days(trail.folder)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match=r"10 of \d+ bytes of the audit trail"):
            trail.record(request="lost")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    trail.record(request="next")
    trail.close()
    assert _requests(trail.folder) == ["first", "next"]
    assert verify_trail(trail.folder).fault is None
