"""What the servers have in common, for whoever starts, watches and stops them."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from infra.errors import ServerUnavailable


class Lack(msgspec.Struct, frozen=True):
    """A program that a server needs and this machine has not; `package` is Debian's name of it."""

    part: str
    reason: str
    package: str


class ProgramsMissing(ServerUnavailable):
    """Something has to be installed or fetched first; nothing was started."""

    @classmethod
    def of(cls, lacks: Sequence[Lack]) -> "ProgramsMissing":
        """Say all that is lacking at once, and how to get it."""
        named = " and ".join(dict.fromkeys(lack.part for lack in lacks))
        reasons = "; ".join(dict.fromkeys(lack.reason for lack in lacks))
        packages = " ".join(dict.fromkeys(lack.package for lack in lacks))
        return cls(f"what {named} needs", reasons, f"apt-get install {packages}")


class Server(Protocol):
    """One server of a home: a folder with its data, and a program over it."""

    @property
    def name(self) -> str:
        """What people call it; also the name of its folder."""

    @property
    def folder(self) -> Path:
        """Where its data, its log and the record of its process are."""

    @property
    def port(self) -> int:
        """The loopback port that clients connect to."""

    @property
    def stop_signal(self) -> signal.Signals:
        """The signal that ends it in good order, without waiting for its clients."""

    def lacks(self) -> Sequence[Lack]:
        """Return what has to be installed before it can start."""

    def prepare(self, lock: int) -> None:
        """Write its configuration, and make its data where there is none.

        Called while no process of it lives; programs run here inherit the descriptor `lock`.
        Raises ServerUnavailable with the reason.
        """

    def command(self) -> Sequence[str]:
        """Return the command that runs it in the foreground, from its folder."""

    def complaint(self) -> str | None:
        """Ask it whether it serves; return what is wrong, None when all is well."""
