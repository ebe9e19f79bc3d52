"""The compose file: what holds for every service, and that it agrees with the native servers."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, ValidationError
from typer.testing import CliRunner

from api.cli.main import app
from infra.servers.kafka import KafkaBroker
from tests import servers

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


def test_the_application_is_well_while_it_answers(compose: dict[str, Any]) -> None:
    for name in sorted(APP):
        service = compose["services"][name]
        command = service["command"]
        _, python, option, script = service["healthcheck"]["test"]
        assert (python, option) == ("python", "-c")
        compile(script, name, "exec")
        port = command[command.index("--port" if name == "api" else "--metrics") + 1]
        assert f'"http://127.0.0.1:{port}/' in script
        if name != "api":
            assert command[-2:] == ["--metrics-host", "0.0.0.0"]
            assert "ports" not in service, "metrics are for the network of the containers alone"


def test_the_commands_of_the_application_are_those_of_the_command_line(
    compose: dict[str, Any],
) -> None:
    for name in sorted(APP):
        told = CliRunner().invoke(app, [*compose["services"][name]["command"], "--help"])
        assert told.exit_code == 0, told.output


def test_the_file_is_valid_by_the_specification(compose: dict[str, Any]) -> None:
    package = importlib.util.find_spec("check_jsonschema")
    if package is None or package.origin is None:
        pytest.skip("check-jsonschema, which brings the schema, is not installed")
    schemas = Path(package.origin).parent / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text())
    Draft7Validator(schema).validate(compose)
    with pytest.raises(ValidationError, match="hostname"):
        Draft7Validator(schema).validate({"services": {"a": {"hostname": 3}}})


def test_ports_are_published_on_loopback_only(service: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_application_waits_until_its_servers_are_healthy(compose: dict[str, Any]) -> None:
    for name in APP:
        waited = compose["services"][name]["depends_on"]
        assert waited == {server: {"condition": "service_healthy"} for server in SERVERS}


def test_tests_in_containers_run_on_the_same_servers(compose: dict[str, Any]) -> None:
    images = {name: compose["services"][name]["image"] for name in SERVERS}
    assert images == {
        "kafka": servers.KAFKA_IMAGE,
        "redis": servers.REDIS_IMAGE,
        "timescaledb": servers.POSTGRES_IMAGE,
    }


def test_a_broker_of_tests_has_the_settings_of_the_file(compose: dict[str, Any]) -> None:
    told, file = servers.kafka_environment(2121), compose["services"]["kafka"]["environment"]
    assert {name for name in file if told[name] != file[name]} == {
        "CLUSTER_ID",
        "KAFKA_ADVERTISED_LISTENERS",
    }
    assert told["CLUSTER_ID"] in file["CLUSTER_ID"]
    assert told["KAFKA_ADVERTISED_LISTENERS"].endswith("OUTSIDE://127.0.0.1:2121")
    assert not any("${" in value for value in told.values())


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
