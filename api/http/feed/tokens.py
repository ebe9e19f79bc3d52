"""Positions of the feed: what a client has seen of a subscription, as an opaque text.

A position is a stamp and, for each partition, the offset that comes next. The stamp is a digest
of the log, the topic, the account and the read model's version: a position of anything else is
known by it, and gets a snapshot.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

Offsets = Mapping[int, int]
"""By partition, the offset up to which, itself left out, all changes are included."""

_PLACE: Final = re.compile(r"(0|[1-9][0-9]{0,5}):(0|[1-9][0-9]{0,17})")


def stamp_of(log_id: str, topic: str, version: int, account: str | None) -> str:
    """Return the digest (BLAKE2b, 6 bytes as hex) of what a position is a position of."""
    told = f"{log_id}\n{topic}\n{version}\n{'*' if account is None else '=' + account}"
    return hashlib.blake2b(told.encode(), digest_size=6).hexdigest()


def position_of(stamp: str, offsets: Offsets) -> str:
    """Return the text of a position."""
    return stamp + "." + ",".join(f"{place}:{offset}" for place, offset in sorted(offsets.items()))


def offsets_of(position: str, stamp: str) -> Offsets | None:
    """Return the offsets of a position; None where it is another stamp's, or nobody's."""
    told, _, places = position.partition(".")
    if told != stamp:
        return None
    found: dict[int, int] = {}
    for place in places.split(","):
        match = _PLACE.fullmatch(place)
        if match is None or int(match[1]) in found:
            return None
        found[int(match[1])] = int(match[2])
    return found


def is_behind(offsets: Offsets, others: Offsets) -> bool:
    """Tell whether offsets are behind others in any partition."""
    return any(offsets.get(place, 0) < offset for place, offset in others.items())
