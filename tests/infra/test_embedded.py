"""The embedded server against real processes, real signals and real folders."""

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from infra import cluster
from infra.embedded import attach, embedded_server
from infra.errors import ServerUnavailable

ROOT = Path(__file__).resolve().parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

USER = """
import sys
from pathlib import Path
from infra.embedded import attach
server = attach(Path(sys.argv[1]))
print(server.dsn, flush=True)
sys.stdin.read()
server.release()
"""

ROUNDS = """
import sys, psycopg
from pathlib import Path
from infra.embedded import embedded_server
for number in range(int(sys.argv[2])):
    with embedded_server(Path(sys.argv[1])) as dsn, psycopg.connect(dsn, autocommit=True) as c:
        c.execute("SELECT pg_advisory_lock(1)")
        c.execute("CREATE TABLE IF NOT EXISTS visits (number integer)")
        c.execute("INSERT INTO visits VALUES (%s)", (number,))
"""


def start(script: str, *arguments: object, launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*launcher, sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def is_down(home: Path) -> bool:
    """Whether no process of the server lives: the lock that all of them inherit is free."""
    with (home / "postgres" / "server.lock").open("r+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def postmaster(home: Path) -> int:
    return int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def crash(home: Path) -> int:
    """Kill the postmaster, wait until it is dead (buried or not), and return its number."""
    pid = postmaster(home)
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX":
            time.sleep(0.001)
    return pid


def ask(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return None if cursor.description is None else cursor.fetchall()[0][0]


@pytest.fixture(scope="module")
def used_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a table `kept` of one row, its server down. Each test leaves it down."""
    home = tmp_path_factory.mktemp("used")
    with embedded_server(home) as dsn:
        ask(dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    return home


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="daybook-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_last_user_to_leave_stops_the_server(used_home: Path) -> None:
    first, second = attach(used_home), attach(used_home)
    assert first.dsn == second.dsn
    first.release()
    assert ask(second.dsn, "SELECT number FROM kept") == 7
    second.release()
    assert is_down(used_home)


def test_releasing_twice_takes_nobody_elses_share(used_home: Path) -> None:
    first, second = attach(used_home), attach(used_home)
    first.release()
    first.release()
    assert not is_down(used_home)
    second.release()
    assert is_down(used_home)


def test_a_kept_server_is_found_again_and_stopped_by_the_next(used_home: Path) -> None:
    with embedded_server(used_home, keep=True):
        kept = postmaster(used_home)
    assert not is_down(used_home)
    with embedded_server(used_home):
        assert postmaster(used_home) == kept
    assert is_down(used_home)


def test_an_error_in_the_block_stops_the_server_too(used_home: Path) -> None:
    with pytest.raises(ZeroDivisionError), embedded_server(used_home):
        _ = 1 // 0
    assert is_down(used_home)


def test_an_open_session_does_not_hold_up_the_stop(used_home: Path) -> None:
    server = attach(used_home)
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE never (number integer)")
        server.release()
        assert is_down(used_home)
        connection.close()
    with embedded_server(used_home) as dsn:
        assert ask(dsn, "SELECT to_regclass('never') IS NULL") is True


def test_a_killed_user_is_forgotten(used_home: Path) -> None:
    with embedded_server(used_home):
        other = start(USER, used_home)
        assert other.stdout is not None
        assert other.stdout.readline().startswith("postgresql://")
        kill(other)
    assert is_down(used_home)


def test_the_server_outlives_its_starter(used_home: Path) -> None:
    starter = start(USER, used_home)
    assert starter.stdout is not None
    dsn = starter.stdout.readline().strip()
    server = attach(used_home)
    starter.communicate("leave")
    assert starter.returncode == 0
    assert server.dsn == dsn
    assert ask(dsn, "SELECT number FROM kept") == 7
    server.release()
    assert is_down(used_home)


def test_a_killed_postmaster_is_replaced_and_nothing_committed_is_lost(used_home: Path) -> None:
    first = attach(used_home)
    with psycopg.connect(first.dsn, autocommit=True) as open_session:
        open_session.execute("CREATE TABLE survivor AS SELECT 11 AS number")
        killed = crash(used_home)
        second = attach(used_home)
        assert postmaster(used_home) != killed
        assert ask(second.dsn, "SELECT number FROM survivor") == 11
        ask(second.dsn, "DROP TABLE survivor")
    first.release()
    second.release()
    assert is_down(used_home)


def test_leaving_after_the_postmaster_was_killed(used_home: Path) -> None:
    with embedded_server(used_home):
        crash(used_home)
    assert is_down(used_home)


def test_a_pid_that_is_another_programs_by_now(used_home: Path) -> None:
    with embedded_server(used_home):
        left_behind = (used_home / "postgres/data/postmaster.pid").read_text().split("\n", 1)[1]
        crash(used_home)
    other = start("input()")
    path = used_home / "postgres/data/postmaster.pid"
    path.write_text(f"{other.pid}\n{left_behind}")
    with embedded_server(used_home) as dsn:
        assert ask(dsn, "SELECT number FROM kept") == 7
    assert other.poll() is None
    kill(other)


def test_many_at_once_on_a_fresh_home(tmp_path: Path) -> None:
    visitors = [start(ROUNDS, tmp_path, 12) for _ in range(3)]
    for visitor in visitors:
        visitor.communicate()
    assert [visitor.returncode for visitor in visitors] == [0, 0, 0]
    assert is_down(tmp_path)
    with embedded_server(tmp_path) as dsn:
        assert ask(dsn, "SELECT count(*) FROM visits") == 36


def maker_is_done(home: Path) -> bool:
    return (home / "postgres" / "data").exists()


def test_killed_while_the_data_folder_is_made(tmp_path: Path) -> None:
    maker = start(USER, tmp_path)
    # On a busy machine it may be made before anybody has seen it being made.
    while not list(tmp_path.glob("postgres/initdb-*")) and not maker_is_done(tmp_path):
        time.sleep(0.001)
    kill(maker)
    with embedded_server(tmp_path) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert list(tmp_path.glob("postgres/initdb-*")) == []
    assert is_down(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["with space", "per%cent & ünï", "a,comma", "quo\"te's", "x" * 120, "-D=\\ $HOME;"],
)
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    with embedded_server(home) as dsn:
        data = ask(dsn, "SHOW data_directory")
        sockets = Path(str(ask(dsn, "SHOW unix_socket_directories")).strip('"'))
        assert sockets.stat().st_mode & 0o077 == 0
    assert data == str(home / "postgres" / "data")
    assert is_down(home)
    assert sockets == home / "postgres" or not sockets.exists()


def test_safe_settings(dsn: str) -> None:
    wanted = {
        "listen_addresses": "",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "lc_collate": "C",
        "TimeZone": "UTC",
    }
    query = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
    found = {n: ask(dsn, query if n == "lc_collate" else f"SHOW {n}") for n in wanted}
    assert found == wanted


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("in the way")
    with pytest.raises(ServerUnavailable, match="home") as caught:
        attach(home)
    assert "DAYBOOK_HOME" in caught.value.hint


def test_a_home_that_cannot_be_written() -> None:
    with pytest.raises(ServerUnavailable, match="/proc/daybook"):
        attach(Path("/proc/daybook"))


def test_data_of_another_version(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("12\n")
    with pytest.raises(ServerUnavailable, match=r"made by PostgreSQL '12', and this is 18"):
        attach(tmp_path)
    assert is_down(tmp_path)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with embedded_server(tmp_path):
        pass
    control = tmp_path / "postgres/data/global/pg_control"
    control.write_bytes(bytes(control.stat().st_size))
    with pytest.raises(ServerUnavailable, match=r"ended while starting: .*FATAL: .*incompatible"):
        attach(tmp_path)
    assert is_down(tmp_path)


def test_a_socket_folder_prepared_by_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / ("x" * 120)
    with embedded_server(home) as dsn:
        sockets = Path(str(ask(dsn, "SHOW unix_socket_directories")).strip('"'))
    sockets.mkdir(mode=0o777)
    sockets.chmod(0o777)
    try:
        with pytest.raises(ServerUnavailable, match="is in the way"):
            attach(home)
    finally:
        sockets.rmdir()
    assert is_down(home)


@AS_ROOT
def test_root_gives_the_data_to_an_account_without_rights(open_folder: Path) -> None:
    with embedded_server(open_folder) as dsn:
        owner = (open_folder / "postgres" / "data").stat().st_uid
        status = Path(f"/proc/{postmaster(open_folder)}/status").read_text()
        assert ask(dsn, "SELECT 1") == 1
    assert owner != 0
    assert f"Uid:\t{owner}\t{owner}\t{owner}" in status
    if all(path.stat().st_mode & 0o001 for path in Path(cluster.__file__).parents):
        assert "CapEff:\t0000000000000000" in status


@AS_ROOT
def test_root_changes_no_mode_on_the_way(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with embedded_server(closed / "home") as dsn:
        assert ask(dsn, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


@AS_ROOT
def test_root_runs_programs_that_are_in_a_closed_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone that `mktemp -d` made room for: initdb looks for its server by access(2)."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    programs = Path(cluster._program("initdb")).parents[2]
    for name in (programs.name, f"{programs.name}.libs"):
        if (programs.parent / name).is_dir():
            shutil.copytree(programs.parent / name, closed / name, symlinks=True)
    bin_folder = (
        closed / programs.name / Path(cluster._program("initdb")).parent.relative_to(programs)
    )
    monkeypatch.setattr(cluster, "_program", lambda name: str(bin_folder / name))
    with embedded_server(closed / "home") as dsn:
        assert ask(dsn, "SELECT 1") == 1


@AS_ROOT
def test_root_does_not_shut_the_owner_of_a_home_out(open_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(open_folder, nobody.pw_uid, nobody.pw_gid)
    with embedded_server(open_folder) as dsn:
        assert ask(dsn, "SELECT 1") == 1
    owners = {path.stat().st_uid for path in open_folder.rglob("*")}
    assert owners == {nobody.pw_uid}
    launcher = cluster._lent_passage(nobody.pw_uid, nobody.pw_gid)
    user = start(USER, open_folder, launcher=launcher)
    answer, _ = user.communicate("leave")
    assert (user.returncode, answer.strip()) == (0, dsn)
    assert is_down(open_folder)


@AS_ROOT
def test_an_ordinary_user_and_root_on_the_users_home(open_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(open_folder, nobody.pw_uid, nobody.pw_gid)
    # Passage is lent here because Python itself may be in a folder of root's.
    launcher = cluster._lent_passage(nobody.pw_uid, nobody.pw_gid)
    user = start(USER, open_folder, launcher=launcher)
    assert user.stdout is not None
    dsn = user.stdout.readline().strip()
    with embedded_server(open_folder) as found:
        assert found == dsn
        user.communicate("leave")
    assert user.returncode == 0
    assert is_down(open_folder)
    assert (open_folder / "postgres" / "data").stat().st_uid == nobody.pw_uid
