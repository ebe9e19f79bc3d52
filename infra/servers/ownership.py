"""Files and processes of the servers belong to the owner of their folder, never to root.

PostgreSQL refuses to run as root, and no server has a reason to. Where root starts them, they run
as the owner of the home, or as an account without rights where that is root too. An account that
may not enter the folders on the way (a home under /root) is lent the capability to pass them.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from infra.cluster import open_owned
from infra.errors import ServerUnavailable


def make_owned(folder: Path) -> Path:
    """Make a folder, closed to others, that belongs to the owner of the one it is in."""
    folder.mkdir(mode=0o700, exist_ok=True)
    _give(folder)
    return folder


def write_owned(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all; only the folder's owner may read it."""
    scratch = path.with_name(path.name + ".new")
    with os.fdopen(open_owned(scratch, os.O_WRONLY | os.O_TRUNC), "wb") as stream:
        stream.write(content)
    scratch.replace(path)


def give_tree(folder: Path) -> None:
    """Hand a folder and all that is in it to the owner of the one that it is in."""
    _give(folder)
    for path in folder.rglob("*"):
        _give(path)


def run_as_owner(
    command: Sequence[str],
    folder: Path,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.STDOUT,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command in a folder as its owner, in a session and with an environment of its own."""
    owner = folder.stat()
    drop = os.geteuid() == 0 and owner.st_uid != 0
    if drop and not all(map(_open_to_all, [folder, *(Path(w) for w in command if w[0] == "/")])):
        command = [*_lent_passage(owner.st_uid, owner.st_gid), *command]
        drop = False
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        start_new_session=True,
        pass_fds=pass_fds,
        user=owner.st_uid if drop else None,
        group=owner.st_gid if drop else None,
        extra_groups=[] if drop else None,
    )


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def _lent_passage(uid: int, gid: int) -> list[str]:
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        reason = "root's folders are closed to the account that servers have to run as"
        hint = "run as an ordinary user, or install setpriv (apt-get install util-linux)"
        raise ServerUnavailable("a server", reason, hint)
    ids = [f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    caps = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    # Without this bit access(2), which Java asks before it opens a file, knows no capabilities.
    return [setpriv, *ids, *caps, "--securebits=+no_setuid_fixup", "--"]
