"""Position tokens, and vectors of them: what the ledger knew at a moment."""

import contextlib
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from domain.commands import Topic
from domain.errors import InvalidValue
from domain.times import Instant
from schemas.codec import Undecodable, envelope
from streams.log import TOPICS, Log

Vector = Mapping[Topic, Mapping[int, int]]
"""By topic and partition, the offset up to which, itself included, a log was known."""

_EXPECTED: Final = (
    "positions such as 0:12,3:55 (of events) or prices/0:7, one for each partition at most"
)


class KnownAt(Struct, frozen=True):
    """What the ledger knew: a vector, and whether an instant led to it that has not passed.

    A topic that the vector does not name is known whole; of one that it names, the partitions that
    it leaves out are not known at all.
    """

    vector: Vector
    provisional: bool = False

    @property
    def left_out(self) -> list[Topic]:
        """The topics that the vector does not name: what is recorded there may change an answer."""
        return [topic for topic in TOPICS if topic not in self.vector]

    def end(self, topic: Topic, partition: int, head: int) -> int:
        """Return the offset at which what is known of a partition ends."""
        known = self.vector.get(topic)
        if known is None:
            return head
        return min(known.get(partition, -1) + 1, head)


def parse_vector(text: str, field: str = "known_at") -> KnownAt:
    """Return the vector that a list of positions stands for; raises InvalidValue."""
    vector: dict[Topic, dict[int, int]] = {}
    for part in text.split(","):
        topic_name, _, place = part.strip().rpartition("/")
        topic = next((one for one in TOPICS if one == (topic_name or "events")), None)
        partition, colon, offset = place.partition(":")
        if topic is None or not colon or not (partition.isdecimal() and offset.isdecimal()):
            raise InvalidValue(field, text, _EXPECTED)
        places = vector.setdefault(topic, {})
        if int(partition) in places:
            raise InvalidValue(field, text, _EXPECTED)
        places[int(partition)] = int(offset)
    return KnownAt(vector)


def newest(tokens: Iterable[str]) -> str:
    """Return the furthest position of each partition among tokens, as a vector's text."""
    furthest: dict[str, int] = {}
    for token in tokens:
        place, _, offset = token.rpartition(":")
        furthest[place] = max(int(offset), furthest.get(place, 0))
    return ",".join(f"{place}:{offset}" for place, offset in sorted(furthest.items()))


def check_reached(log: Log, known_at: KnownAt) -> KnownAt:
    """Return the vector if the log has come that far; raises InvalidValue.

    Past the log's end an answer would change with every record that comes.
    """
    for topic, places in known_at.vector.items():
        heads = log.heads(topic)
        for partition, offset in places.items():
            if partition >= len(heads):
                expected = f"partitions from 0 to {len(heads) - 1}"
                raise InvalidValue("known_at", f"{partition}:{offset}", expected)
            if offset >= heads[partition]:
                expected = (
                    f"a position of {topic} no further than {partition}:{heads[partition] - 1}"
                )
                raise InvalidValue("known_at", f"{partition}:{offset}", expected)
    return known_at


def last_recorded(log: Log, known_at: KnownAt) -> Instant | None:
    """Return when the last event of a vector was recorded; None where it knows no events."""
    times = [
        _last_before(log, partition, known_at.end("events", partition, head))
        for partition, head in enumerate(log.heads("events"))
    ]
    return max((time for time in times if time is not None), default=None)


def _last_before(log: Log, partition: int, end: int) -> Instant | None:
    """Return the recorded time of the last record below an offset that can be read."""
    for offset in range(end - 1, -1, -1):
        for record in log.read("events", partition, offset, 1):
            with contextlib.suppress(Undecodable):  # parked, or it is going to be
                return envelope(record.value).recorded_time
    return None


def known_at_instant(log: Log, instant: Instant) -> KnownAt:
    """Return what the ledger knew at an instant.

    It is provisional until every partition holds a later record: one with an earlier recorded
    time may still come.
    """
    vector: dict[Topic, dict[int, int]] = {}
    provisional = False
    for topic in TOPICS:
        ends, heads = log.positions_at(topic, instant), log.heads(topic)
        provisional = provisional or any(end >= head for end, head in zip(ends, heads, strict=True))
        vector[topic] = {partition: end - 1 for partition, end in enumerate(ends) if end > 0}
    return KnownAt(vector, provisional)


def to_text(known_at: KnownAt) -> str:
    """Return a vector as it can be given again, without partitions that hold no events."""
    parts = []
    for topic in TOPICS:
        places = known_at.vector.get(topic)
        if places is None:
            continue
        prefix = "" if topic == "events" else f"{topic}/"
        named = {partition: offset for partition, offset in places.items() if offset > 0}
        for partition, offset in sorted((named or {0: places.get(0, 0)}).items()):
            parts.append(f"{prefix}{partition}:{offset}")
    return ",".join(parts)
