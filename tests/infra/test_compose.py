"""The compose file: what holds for every service, and that it agrees with the native servers."""

from pathlib import Path
from typing import Any

import pytest

from infra.servers.kafka import KafkaBroker

yaml = pytest.importorskip("yaml", reason="PyYAML, which reads the compose file, is not installed")

ROOT = Path(__file__).resolve().parents[2]
SERVERS = {"kafka", "timescaledb", "redis"}
APP = {"api", "decider", "worker"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(params=sorted(SERVERS | APP))
def service(request: pytest.FixtureRequest, compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"][request.param]
    return found


def test_all_parts_are_there(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == SERVERS | APP
    app = {name for name, one in compose["services"].items() if one.get("profiles") == ["app"]}
    assert app == APP


def test_a_service_is_checked_limited_and_not_root(service: dict[str, Any]) -> None:
    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert int(service["user"].partition(":")[0]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_a_service_keeps_its_data_in_a_volume_of_its_own(
    service: dict[str, Any], compose: dict[str, Any]
) -> None:
    (mount,) = service["volumes"]
    volume = mount.partition(":")[0]
    assert volume in compose["volumes"]
    assert str(compose).count(f"'{volume}:/") == 1


def test_ports_are_published_on_loopback_only(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_application_waits_until_its_servers_are_healthy(compose: dict[str, Any]) -> None:
    for name in APP:
        waited = compose["services"][name]["depends_on"]
        assert waited == {server: {"condition": "service_healthy"} for server in SERVERS}


def test_the_broker_has_the_settings_of_a_native_one(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    native = KafkaBroker(tmp_path, 1, "Zabc", (1,), (2,))._settings()
    told = compose["services"]["kafka"]["environment"]
    of_the_place = {
        "node.id",
        "controller.quorum.voters",
        "listeners",
        "advertised.listeners",
        "inter.broker.listener.name",
        "listener.security.protocol.map",
        "log.dirs",
    }
    for name in set(native) - of_the_place:
        assert told["KAFKA_" + name.upper().replace(".", "_")] == str(native[name]), name


def test_the_image_is_built_from_what_is_there(compose: dict[str, Any]) -> None:
    build = compose["services"]["api"]["build"]
    dockerfile = (ROOT / build["context"] / build["dockerfile"]).read_text().splitlines()
    copied = [line.split()[1:-1] for line in dockerfile if line.startswith("COPY ")]
    assert copied
    assert all((ROOT / name).exists() for names in copied for name in names if name[0] not in "/-")
    assert "USER 10001:10001" in dockerfile
    assert any("--require-hashes" in line for line in dockerfile)
