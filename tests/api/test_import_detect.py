"""Formats told by content, and only the reader in use loaded."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from api.importing.detect import detect, read
from api.importing.lines import Options, Problem, UnreadableFile

OPTIONS = Options(digest="ab" * 32)


@pytest.mark.parametrize(
    ("content", "source"),
    [
        (b"PAR1\x15\x04", "parquet"),
        (b"8=FIX.4.4\x019=5\x01", "fix"),
        (b"\n8=FIX.4.4|9=5|", "fix"),
        (b'<?xml version="1.0"?>\n<FlexQueryResponse queryName="x">', "ibkr-flex"),
        (b'\xef\xbb\xbf<FlexQueryResponse queryName="x">', "ibkr-flex"),
        (b"<html>", "csv"),
        (b"34200.004241176,1,16113575,18,5853300,1\n34200.1,1,2,3,4,-1\n", "lobster"),
        (b"34200,3,16113575,18,5853300,-1\r\n", "lobster"),
        (gzip.compress(b"34200.004241176,1,16113575,18,5853300,1\n", mtime=0), "lobster"),
        (b"account,base_currency\nA1,USD\n", "csv"),
        (gzip.compress(b"account,base_currency\nA1,USD\n", mtime=0), "csv"),
        (b"1,2,3,4,5,6\n", "csv"),
        (b"", "csv"),
        (b"\x1f\x8b\x08broken", "csv"),
        (bytes(range(256)), "csv"),
    ],
)
def test_formats(tmp_path: Path, content: bytes, source: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert detect(str(path)) == source


def test_real_files(shared_data: Path) -> None:
    (lobster,) = (shared_data / "lobster").iterdir()
    assert detect(str(lobster)) == "lobster"
    for statement in (shared_data / "ibkr-flex").iterdir():
        assert detect(str(statement)) == "ibkr-flex"


@pytest.mark.parametrize(("name", "reason"), [("", "folder"), ("missing", "no such file")])
def test_what_is_not_a_file(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        detect(f"{tmp_path}/{name}")


def test_source_that_is_told_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"account,base_currency\nA1,USD\n")
    (problem,) = read(str(path), "parquet", OPTIONS)
    assert isinstance(problem, Problem)
    (fact,) = read(str(path), None, OPTIONS)
    assert not isinstance(fact, Problem)


def test_reading_csv_does_not_load_pyarrow_or_lxml(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"account,base_currency\nA1,USD\n")
    program = (
        "import sys; from api.importing.detect import read;"
        "from api.importing.lines import Options;"
        f"assert list(read({str(path)!r}, None, Options(digest='0')));"
        "assert not {'pyarrow', 'lxml', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
