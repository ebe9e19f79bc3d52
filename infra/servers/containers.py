"""The servers of a home as containers, by the project's own compose file.

Compose does the work: this chooses free ports, names the project after the home so that two homes
never share a container, and says what compose has to say.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from infra import cluster
from infra.errors import ServerUnavailable
from infra.servers.choices import Choices, load_choices, new_choices, store_choices, with_ports
from infra.servers.native import Health, Look, Say
from infra.servers.ownership import make_owned

PART: Final = "Docker"
_FILE: Final = Path(__file__).resolve().parents[2] / "docker-compose.yml"
_SERVICES: Final = {"kafka": "kafka", "redis": "redis", "timescaledb": "postgres"}
_FOLDER: Final = "containers"
_ASK_TIMEOUT_S: Final = 10.0


def docker_answers() -> bool:
    """Tell whether there is a Docker daemon, and compose to speak to it."""
    if shutil.which("docker") is None:
        return False
    asked = (["docker", "info"], ["docker", "compose", "version"])
    return all(_answers(command) for command in asked)


def were_chosen(home: Path) -> bool:
    """Tell whether the servers of this home have been containers before."""
    return load_choices(_folder(home)) is not None


def start_containers(home: Path, *, say: Say) -> None:
    """Start Kafka (one broker), TimescaleDB and Redis; returns when all are healthy.

    Raises ServerUnavailable with compose's own words.
    """
    _check_docker()
    folder = _folder(home)
    cluster.make_folder(folder.parent)
    make_owned(folder)
    kept = load_choices(folder)
    choices = kept or with_ports(new_choices(1), _SERVICES.values())
    say("starting containers")
    try:
        _compose(home, choices, ["up", "--detach", "--wait", *_SERVICES])
    except ServerUnavailable:
        if kept is None:  # nothing was begun: the next try may choose anew, or go native
            _compose(home, choices, ["down", "--volumes"])
        raise
    store_choices(folder, choices)


def stop_containers(home: Path, *, say: Say) -> None:
    """Stop and remove the containers of this home, the application's too; the volumes stay.

    Raises ServerUnavailable where nobody can: then they run on.
    """
    choices = load_choices(_folder(home))
    if choices is not None:
        _check_docker()
        say("stopping containers")
        _compose(home, choices, ["--profile", "app", "down"])


def look_at_containers(home: Path) -> Look:
    """Ask compose how the containers are; raises ServerUnavailable where nobody can tell."""
    choices = load_choices(_folder(home))
    if choices is None:
        return Look((), {})
    _check_docker()
    told = _compose(home, choices, ["ps", "--all", "--format", "json"])
    rows: list[dict[str, Any]] = [msgspec.json.decode(line) for line in told.splitlines() if line]
    known = [(row, _SERVICES[row["Service"]]) for row in rows if row["Service"] in _SERVICES]
    healths = tuple(
        Health(row["Service"], choices.ports[name], None, _complaint(row)) for row, name in known
    )
    return Look(healths, _urls(choices) if healths else {})


def _check_docker() -> None:
    if not docker_answers():
        reason = "no Docker daemon answers, or `docker compose` is not installed"
        raise ServerUnavailable(PART, reason, "start it, or use --native with another home")


def _complaint(row: dict[str, Any]) -> str | None:
    state = row.get("Health") or row.get("State")
    return None if state == "healthy" else f"the container is {state}"


def _urls(choices: Choices) -> dict[str, str]:
    ports, password = choices.ports, choices.password
    return {
        "DAYBOOK_LOG_URL": f"kafka://127.0.0.1:{ports['kafka']}/daybook",
        "DAYBOOK_STORE_URL": f"postgresql://daybook:{password}@127.0.0.1:{ports['postgres']}"
        "/daybook",
        "DAYBOOK_CACHE_URL": f"redis://:{password}@127.0.0.1:{ports['redis']}/0",
    }


def _folder(home: Path) -> Path:
    return home.resolve() / "servers" / _FOLDER


def _compose(home: Path, choices: Choices, words: Sequence[str]) -> str:
    if not _FILE.is_file():
        reason = f"{_FILE} is not there: it comes with the project's sources only"
        raise ServerUnavailable(PART, reason, "run from a checkout, or use --native")
    project = f"daybook-{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:10]}"
    told = {
        "DAYBOOK_PASSWORD": choices.password,
        "DAYBOOK_KAFKA_CLUSTER_ID": choices.cluster_id,
        **{f"DAYBOOK_{name.upper()}_PORT": str(port) for name, port in choices.ports.items()},
    }
    command = ["docker", "compose", "--file", str(_FILE), "--project-name", project, *words]
    done = subprocess.run(
        command,
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerUnavailable(PART, cluster.last_words(done.stderr.encode()), f"see {_FILE}")
    return done.stdout


def _answers(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_ASK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
