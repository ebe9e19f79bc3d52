"""The OpenAPI document is kept: what it promises is answered, what it forbids is refused."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.http.app import operations
from api.http.operation import Operation
from tests.api.http.server import cash, deal, order, served

_EXAMPLES = 12


@pytest.fixture(scope="module")
def document(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[schemathesis.BaseSchema]:
    """The document of a server that has a book, for as long as this file's tests."""
    with contextlib.ExitStack() as stack:
        home = tmp_path_factory.mktemp("contract")
        server = stack.enter_context(served(home, new_database()))
        client = stack.enter_context(server.client())
        for path, body in (
            ("/v1/cash", cash("A1", "C1")),
            ("/v1/deals", deal("A1", "D1")),
            ("/v1/orders", order("A1", "O1")),
        ):
            assert client.post(path, json=body).status_code == 201
        yield schemathesis.openapi.from_url(server.url + "/openapi.json")


@pytest.mark.parametrize("mode", schemathesis.GenerationMode, ids=lambda one: one.name.lower())
@pytest.mark.parametrize("operation", operations(), ids=lambda one: one.name)
def test_the_contract_is_kept(
    document: schemathesis.BaseSchema, operation: Operation, mode: schemathesis.GenerationMode
) -> None:
    if mode is schemathesis.GenerationMode.NEGATIVE and not (
        operation.parameters or operation.body
    ):
        pytest.skip("nothing is asked, so nothing can be asked wrongly")
    described = document[operation.path][operation.method]

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        # That a value fits its schema does not make it good: which accounts, instants and
        # positions there are, no schema can say.
        excluded: list[Any] = [positive_data_acceptance, not_a_server_error]
        answer = case.call_and_validate(excluded_checks=excluded, timeout=120)
        # Positions that fit their schema may never be reached, which is answered with 504.
        assert answer.status_code < 500 or answer.status_code == 504, answer.text

    check()
