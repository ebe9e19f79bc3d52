"""A folder of its own for each decider of a home, held by a lock that ends with its process."""

import fcntl
import os
from pathlib import Path
from typing import Final

from infra.errors import ServerUnavailable

_MOST: Final = 64


class Slot:
    """A numbered folder under `deciders`, held until closed."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock

    @classmethod
    def take(cls, home: Path) -> "Slot":
        """Take the first folder that no living decider holds; raises ServerUnavailable."""
        deciders = home / "deciders"
        try:
            deciders.mkdir(parents=True, exist_ok=True)
            for number in range(_MOST):
                lock = os.open(
                    deciders / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(lock)
                    continue
                return cls(deciders / str(number), lock)
        except OSError as error:
            reason = f"{error.filename or deciders}: {error.strerror or error}"
            raise ServerUnavailable("the deciders' folder", reason, "set DAYBOOK_HOME") from error
        reason = f"{_MOST} deciders run in {deciders}"
        raise ServerUnavailable("the deciders' folder", reason, "set DAYBOOK_HOME to another")

    def close(self) -> None:
        """Give the folder back."""
        os.close(self._lock)
