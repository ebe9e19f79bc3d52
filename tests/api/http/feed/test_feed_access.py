"""Every topic x every role x whose account: made from the tables of both, so none is forgotten."""

import asyncio
from typing import Any

import pytest
from msgspec import Struct

from api.http.feed.access import NOT_YET, TOPICS, refusal
from api.http.feed.reading import ALERTS
from api.http.feed.service import Feed
from api.http.limits import Limiter, LocalLimiter
from api.http.problems import Problem
from api.http.security import EVERY, LOCAL, ROLES, Principal, Role

ACCOUNTS = ("own", "foreign", "below", None)


def below(account: str) -> frozenset[str]:
    return frozenset(("desk",)) if account == "below" else frozenset()


def expected(topic: str, account: str | None, told: frozenset[str] | None) -> str | None:
    """Return the kind of problem that must be told, None where rows are shown."""
    if topic in NOT_YET:
        return "topic-not-yet"
    if topic == ALERTS and account is not None:
        return "invalid-request"
    if told is None:
        return None
    if account is None:
        return "forbidden"
    return None if account in ("own", "below") else "unknown-account"


@pytest.mark.parametrize("told", [None, frozenset(("own",))])
@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("topic", TOPICS)
def test_who_may_follow_what(
    topic: str, role: Role, account: str | None, told: frozenset[str] | None
) -> None:
    principal = Principal(
        subject="somebody",
        role=role,
        scopes=ROLES[role],
        accounts=told,
        portfolios=frozenset(("desk",)),
        portfolios_of=below,
    )
    refused = refusal(principal, topic, account)
    kind = expected(topic, account, told)
    assert (None if refused is None else refused.type) == (
        None if kind is None else f"urn:daybook:problem:{kind}"
    )


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic not in NOT_YET])
def test_without_the_scope_nothing_is_shown(topic: str) -> None:
    principal = Principal(subject="x", role="service", scopes=frozenset(("orders",)), accounts=None)
    refused = refusal(principal, topic, None if topic == ALERTS else "own")
    assert refused is not None
    assert refused.status == 403
    assert EVERY not in refused.detail


class OnlyLimiter(Struct):
    """What of a server's services says how often one may connect."""

    limiter: Limiter


def test_who_connects_too_often_is_told_when_to_come_again() -> None:
    hub: Any = None
    services: Any = OnlyLimiter(LocalLimiter(1))
    feed = Feed(hub, services)

    async def connect_often() -> None:
        for _ in range(1000):
            (await feed.take_place(LOCAL))()

    with pytest.raises(Problem) as refused:
        asyncio.run(connect_often())
    assert refused.value.kind.status == 429
    assert int(refused.value.headers["Retry-After"]) > 0
