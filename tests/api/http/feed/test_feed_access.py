"""Every topic x every role x whose account: made from the tables of both, so none is forgotten."""

import pytest

from api.http.feed.access import NOT_YET, TOPICS, refusal
from api.http.feed.reading import ALERTS
from api.http.security import EVERY, ROLES, Principal, Role

ACCOUNTS = ("own", "foreign", "below", None)


def below(account: str) -> frozenset[str]:
    return frozenset(("desk",)) if account == "below" else frozenset()


def expected(topic: str, account: str | None, told: frozenset[str] | None) -> str | None:
    """Return the kind of problem that must be told, None where rows are shown."""
    if topic in NOT_YET:
        return "topic-not-yet"
    if topic == ALERTS:
        return None if account is None else "unknown-topic"
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
