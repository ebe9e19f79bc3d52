"""The copy of an imported file is what its name says, or there is none."""

import gzip
import hashlib
from pathlib import Path

import pytest

from api.importing.evidence import content_of, keep_copy
from api.importing.lines import UnreadableFile

TOLD = b"account,base_currency\nA1,USD\n"
DIGEST = hashlib.sha256(TOLD).hexdigest()


@pytest.mark.parametrize("data", [TOLD, gzip.compress(TOLD)], ids=["plain", "packed"])
def test_a_copy_is_kept_under_its_own_digest(tmp_path: Path, data: bytes) -> None:
    path, kept = tmp_path / "told", tmp_path / "imported"
    path.write_bytes(data)
    content = content_of(str(path))
    assert (content.digest, content.size) == (DIGEST, len(TOLD))
    assert keep_copy(kept, str(path), content)
    assert {one.name: one.read_bytes() for one in kept.iterdir()} == {DIGEST: TOLD}
    # One that a power loss, or an earlier version, left otherwise is put right.
    (kept / DIGEST).write_bytes(b"")
    assert keep_copy(kept, str(path), content)
    assert (kept / DIGEST).read_bytes() == TOLD


def test_a_file_that_has_changed_meanwhile_is_not_kept_under_another_name(tmp_path: Path) -> None:
    path, kept = tmp_path / "drop-copy", tmp_path / "imported"
    path.write_bytes(TOLD)
    content = content_of(str(path))
    with path.open("ab") as file:
        file.write(b"A2,USD\n")
    assert not keep_copy(kept, str(path), content)
    assert list(kept.iterdir()) == []


def test_a_packed_file_that_breaks_off_is_unreadable(tmp_path: Path) -> None:
    packed = gzip.compress(TOLD * 100, mtime=0)
    for broken in (packed[:-9], packed[:30] + bytes([packed[30] ^ 255]) + packed[31:]):
        (tmp_path / "told").write_bytes(broken)
        with pytest.raises(UnreadableFile, match="breaks off"):
            content_of(str(tmp_path / "told"))
