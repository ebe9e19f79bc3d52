"""Who may subscribe to what."""

from typing import Final

from api.http.feed.frames import Problem, problem
from api.http.feed.reading import ALERTS
from api.http.feed.sources import SOURCES
from api.http.problems import FORBIDDEN, UNKNOWN_ACCOUNT, Kind
from api.http.security import Principal

UNKNOWN_TOPIC: Final = Kind("unknown-topic", 404, "There is no such topic")
TOPIC_NOT_YET: Final = Kind("topic-not-yet", 501, "This topic is not there yet")
DUPLICATE_SUBSCRIPTION: Final = Kind("duplicate-subscription", 409, "The id is in use")
UNKNOWN_SUBSCRIPTION: Final = Kind("unknown-subscription", 404, "There is no such subscription")
TOO_MANY_SUBSCRIPTIONS: Final = Kind("too-many-subscriptions", 429, "Too many subscriptions")

KINDS: Final = (
    UNKNOWN_TOPIC,
    TOPIC_NOT_YET,
    DUPLICATE_SUBSCRIPTION,
    UNKNOWN_SUBSCRIPTION,
    TOO_MANY_SUBSCRIPTIONS,
)
"""The problems that only the feed has."""

NOT_YET: Final = ("pnl", "risk")
TOPICS: Final = (*SOURCES, ALERTS, *NOT_YET)


def refusal(principal: Principal, topic: str, account: str | None) -> Problem | None:
    """Return why a subscription is not allowed or not possible; None where it is.

    An account that may not be seen is refused whether it is there or not.
    """
    if topic in NOT_YET:
        return problem(TOPIC_NOT_YET, f"{topic} is not there yet; there are {_named()}")
    if topic not in TOPICS:
        return problem(UNKNOWN_TOPIC, f"{topic!r} is no topic; there are {_named()}")
    if topic == ALERTS and account is not None:
        return problem(UNKNOWN_TOPIC, "alerts are not of an account; leave `account` out")
    if not principal.may("read"):
        return problem(FORBIDDEN, "the token has no scope `read`")
    if topic == ALERTS:
        return None
    if account is None:
        if principal.accounts is not None:
            return problem(FORBIDDEN, "of all accounts; name one of yours with `account`")
        return None
    if not principal.may_read(account):
        return problem(UNKNOWN_ACCOUNT, f"no account {account!r} that this token may read")
    return None


def _named() -> str:
    return ", ".join(topic for topic in TOPICS if topic not in NOT_YET)
