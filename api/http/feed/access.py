"""Who may subscribe to what."""

from typing import Final

from api.http.feed.frames import Problem, problem
from api.http.feed.reading import ALERTS
from api.http.feed.sources import SOURCES
from api.http.problems import (
    FORBIDDEN,
    INVALID_REQUEST,
    TOPIC_NOT_YET,
    UNKNOWN_ACCOUNT,
    UNKNOWN_TOPIC,
)
from api.http.security import Principal
from domain.identifiers import is_id

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
        return problem(INVALID_REQUEST, "account: alerts are of none; leave it out")
    if not principal.may("read"):
        return problem(FORBIDDEN, "the token has no scope `read`")
    if account is None:
        if principal.accounts is None:
            return None
        if topic == ALERTS:  # what stands still tells why, and with that whose account it was
            return problem(FORBIDDEN, "alerts are for who may see all accounts")
        return problem(FORBIDDEN, "of all accounts; name one of yours with `account`")
    # The store takes no NUL, not even in a question.
    if not is_id(account) or not principal.may_read(account):
        return problem(UNKNOWN_ACCOUNT, f"no account {account!r} that this token may read")
    return None


def _named() -> str:
    return ", ".join(topic for topic in TOPICS if topic not in NOT_YET)
