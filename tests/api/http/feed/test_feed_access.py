"""Every topic x every role x whose account: made from the tables of both, so none is forgotten."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from api.http.feed.access import NOT_YET, TOPICS, refusal
from api.http.feed.connection import Connection
from api.http.feed.metrics import Counts
from api.http.feed.reading import ALERTS
from api.http.feed.routes import _Listener
from api.http.feed.service import Feed
from api.http.keys import KeyRing, signing_key
from api.http.limits import Limiter, LocalLimiter
from api.http.problems import RATE_LIMITED, Problem
from api.http.security import EVERY, LOCAL, ROLES, Gate, Principal, Role

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


class AtTheDoor(Struct):
    """What of a server's services says how often one may connect, and who."""

    limiter: Limiter
    gate: Gate


class Followed(Struct):
    """What of a hub a connection needs that follows nothing."""

    counts: Counts


class Known(Connection):
    """A connection that keeps as whom it went on."""

    def __init__(self, principal: Principal) -> None:
        channels: Any = Followed(Counts())
        super().__init__(channels, principal)
        self.identified: list[Principal] = []

    def identify(self, principal: Principal) -> None:
        self.identified.append(principal)
        super().identify(principal)


def test_only_whose_rights_may_have_changed_is_judged_anew(tmp_path: Path) -> None:
    hub: Any = None
    services: Any = AtTheDoor(LocalLimiter(0), Gate(KeyRing(tmp_path)))
    connection = Known(Principal(subject="ann", role="quant", scopes=ROLES["quant"]))
    listener = _Listener(Feed(hub, services), connection, None, None)

    async def check() -> None:
        for _ in range(3):
            await listener._check()

    asyncio.run(check())
    assert connection.identified == [LOCAL]


def test_only_tokens_tell_whose_feeds_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.feed.service.MOST_FEEDS_OF_ONE", 1)
    hub: Any = None

    async def connect_twice() -> None:
        services: Any = AtTheDoor(LocalLimiter(0), Gate(KeyRing(tmp_path)))
        feed = Feed(hub, services)
        for _ in range(2):
            await feed.take_place(LOCAL)

    asyncio.run(connect_twice())
    signing_key(tmp_path)
    with pytest.raises(Problem) as refused:
        asyncio.run(connect_twice())
    assert refused.value.kind is RATE_LIMITED


def test_who_connects_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    hub: Any = None
    services: Any = AtTheDoor(LocalLimiter(1), Gate(KeyRing(tmp_path)))
    feed = Feed(hub, services)

    async def connect_often() -> None:
        for _ in range(1000):
            (await feed.take_place(LOCAL))()

    with pytest.raises(Problem) as refused:
        asyncio.run(connect_often())
    assert refused.value.kind.status == 429
    assert int(refused.value.headers["Retry-After"]) > 0
