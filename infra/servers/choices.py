"""What was chosen once for the servers of a home and holds for every later run."""

import base64
import random
import secrets
import socket
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from infra import cluster
from infra.errors import ServerUnavailable, SettingsError
from infra.servers.ownership import write_owned

BROKERS_ALLOWED: Final = (1, 3)
_FILE_NAME: Final = "servers.json"
# Below the range that systems give to outgoing connections (from 32768 on Linux, 49152 elsewhere):
# a port that is kept for the next run must not be somebody's by chance.
_PORTS: Final = range(20000, 30000)


class Choices(msgspec.Struct, frozen=True):
    """Ports by server, how many brokers, and what the servers know each other and us by."""

    brokers: int
    cluster_id: str
    password: str
    ports: dict[str, int]


def load_choices(servers: Path) -> Choices | None:
    """Return what was chosen for the servers in this folder, None where nothing was yet.

    Raises ServerUnavailable where it cannot be read, SettingsError where it is spoilt.
    """
    try:
        return msgspec.json.decode((servers / _FILE_NAME).read_bytes(), type=Choices)
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise ServerUnavailable("the servers' folder", reason, cluster.HINT_HOME) from error
    except msgspec.DecodeError as error:
        path = str(servers / _FILE_NAME)
        raise SettingsError("the choices of the servers", path, f"as written: {error}") from error


def store_choices(servers: Path, choices: Choices) -> None:
    """Keep the choices for later runs; the file has a password and is the owner's alone."""
    write_owned(servers / _FILE_NAME, msgspec.json.format(msgspec.json.encode(choices)))


def new_choices(brokers: int) -> Choices:
    """Choose for a home that has no servers yet; the ports are chosen when they are needed."""
    # An id that begins with a hyphen would be taken for an option; with this byte it is a "Z".
    cluster_id = base64.urlsafe_b64encode(b"d" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    return Choices(brokers, cluster_id, secrets.token_urlsafe(18), {})


def with_ports(choices: Choices, names: Iterable[str]) -> Choices:
    """Return the choices with a free port for each of these names in place of an older one."""
    ports = dict(choices.ports)
    for name in names:
        taken = set(ports.values())
        candidates = (port for port in random.sample(_PORTS, len(_PORTS)) if port not in taken)
        ports[name] = next(port for port in candidates if is_free(port))
    return msgspec.structs.replace(choices, ports=ports)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
