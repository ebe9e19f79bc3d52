"""Connections to Redis, which may be away at any moment: a short wait, one try, no surprise."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # it takes longer to load than the whole command line's help
    from redis import Redis

TIMEOUT_S: Final = 0.25


def connect(url: str, *, timeout_s: float = TIMEOUT_S) -> "Redis":
    """Return a client that waits `timeout_s` for a connection and for an answer, and tries once.

    It connects when it is first used, and may be shared between threads.
    """
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        url,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        client_name="daybook",
    )
