"""The parts of the native servers that need no server: the probe's protocol, ports, choices."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import SettingsError
from infra.servers.choices import is_free, load_choices, new_choices, store_choices, with_ports
from infra.servers.kafka import KafkaBroker
from infra.servers.kafka_probe import ClusterView, _cluster, _Reader, describe


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server on a port that gives everybody the same answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def framed(body: bytes) -> bytes:
    return struct.pack("!i", len(body)) + body


def text(value: str) -> bytes:
    return struct.pack("!h", len(value)) + value.encode()


def test_a_brokers_answer_is_read() -> None:
    brokers = b"".join(
        struct.pack("!i", n) + text("127.0.0.1") + struct.pack("!ih", 20000 + n, -1) for n in (1, 3)
    )
    body = struct.pack("!ii", 1, 2) + brokers + text("Zabc") + struct.pack("!ii", 1, 0)
    with answering(framed(body)) as port:
        assert describe(port, 5) == ClusterView("Zabc", {1: 20001, 3: 20003})


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", framed(b""), framed(b"\0\0\0\1\0\0\0\5\0\0")]
)
def test_somebody_who_is_not_kafka_is_told_apart(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(ValueError, match="not Kafka's"):
        describe(port, 5)


@pytest.mark.parametrize("answer", [b"", b"\0\0", struct.pack("!i", 100) + b"short"])
def test_an_answer_that_ends_too_soon_is_no_answer(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(ConnectionResetError):
        describe(port, 5)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_view_or_a_value_error(content: bytes) -> None:
    try:
        view = _cluster(_Reader(content))
    except ValueError:
        return
    assert len(view.brokers) * 14 <= len(content)


def test_ports_are_free_different_and_outside_of_the_ephemeral_range() -> None:
    names = [f"server-{n}" for n in range(50)]
    ports = with_ports(new_choices(3), names).ports
    assert list(ports) == names
    assert len(set(ports.values())) == 50
    assert all(20000 <= port < 30000 for port in ports.values())


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_only_the_ports_asked_for_move() -> None:
    before = with_ports(new_choices(1), ["redis", "postgres"])
    after = with_ports(before, ["redis"])
    assert after.ports["postgres"] == before.ports["postgres"]
    assert after.ports["redis"] not in before.ports.values()


def test_choices_are_kept_for_the_owner_alone(tmp_path: Path) -> None:
    assert load_choices(tmp_path) is None
    choices = with_ports(new_choices(3), ["redis"])
    store_choices(tmp_path, choices)
    assert load_choices(tmp_path) == choices
    assert (tmp_path / "servers.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", ["", "{", '{"brokers": "three"}'])
def test_spoilt_choices_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "servers.json").write_text(content)
    with pytest.raises(SettingsError, match=r"servers\.json"):
        load_choices(tmp_path)


def test_ids_of_clusters_differ_and_are_no_options() -> None:
    ids = {new_choices(1).cluster_id for _ in range(200)}
    assert len(ids) == 200
    assert all(len(one) == 22 and not one.startswith("-") for one in ids)


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, 1, 1), (3, 3, 2)])
def test_a_broker_is_set_for_as_many_as_there_are(
    tmp_path: Path, brokers: int, replicas: int, in_sync: int
) -> None:
    ports = tuple(range(20001, 20001 + brokers))
    controllers = tuple(range(20101, 20101 + brokers))
    settings = KafkaBroker(tmp_path, brokers, "Zabc", ports, controllers)._settings()
    assert settings["default.replication.factor"] == replicas
    assert settings["min.insync.replicas"] == in_sync
    assert settings["transaction.state.log.min.isr"] == in_sync
    assert settings["listeners"] == (
        f"LOCAL://127.0.0.1:{ports[-1]},CONTROLLER://127.0.0.1:{controllers[-1]}"
    )
    assert str(settings["controller.quorum.voters"]).count("@127.0.0.1:") == brokers
