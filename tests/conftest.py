"""Fixtures that every folder of tests shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import servers
from tests.crashes import pytest_testnodedown, pytest_xdist_make_scheduler

__all__ = ["pytest_testnodedown", "pytest_xdist_make_scheduler"]

# How fast the machine is today is no property of the code.
settings.register_profile("daybook", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("daybook")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real input beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real input is not here: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def kafka_bootstrap(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A real broker, shared by the session, as `127.0.0.1:port`; topics are the test's to name."""
    home, kept = tmp_path_factory.mktemp("kafka"), request.config.cache.mkdir("kafka")
    contained = servers.kafka_container
    with servers.server("DAYBOOK_TEST_KAFKA", contained, "kafka", home, kept) as url:
        yield url.removeprefix("kafka://").partition("/")[0]


@pytest.fixture(scope="session")
def redis_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A real Redis, shared by the session; keys are the test's to name."""
    home, kept = tmp_path_factory.mktemp("redis"), request.config.cache.mkdir("redis")
    contained = servers.redis_container
    with servers.server("DAYBOOK_TEST_REDIS", contained, "redis", home, kept) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A real PostgreSQL over TCP, shared by the session; schemas are the test's to name."""
    home, kept = tmp_path_factory.mktemp("postgres"), request.config.cache.mkdir("postgres")
    contained = servers.postgres_container
    with servers.server("DAYBOOK_TEST_POSTGRES", contained, "postgres", home, kept) as url:
        yield url
