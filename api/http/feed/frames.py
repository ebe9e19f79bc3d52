"""The frames of the feed as structs, and how they are read and written."""

from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from api.http.problems import INVALID_REQUEST, Kind

MAX_FRAME_BYTES: Final = 65_536
"""The largest frame that a client may send."""

SubscriptionId = (
    Annotated[int, Meta(ge=-(2**53), le=2**53)] | Annotated[str, Meta(min_length=1, max_length=64)]
)
"""A client's own name for a subscription, told again in all its frames."""
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Position = Annotated[str, Meta(max_length=4096)]
"""Opaque: to be kept as it came, and told again in `from` to go on from there."""

Frame = tuple[bytes, ...]
"""A frame as it is sent: many rows are a part of their own, one text for all who are sent them."""
_JOINED_BYTES: Final = 4096
"""Rows of at most so many bytes are joined with what stands around them: a copy costs less then."""


class Subscribe(Struct, frozen=True, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Ask for a topic, of one account or of all that the caller may see."""

    id: SubscriptionId
    topic: Name
    account: Name | None = None
    from_: Position | None = field(name="from", default=None)


class Unsubscribe(
    Struct, frozen=True, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True
):
    """End a subscription; frames of it that were on their way may still come."""

    id: SubscriptionId


class Authenticate(
    Struct, frozen=True, tag_field="op", tag="authenticate", forbid_unknown_fields=True
):
    """Give a newer token before the one that the connection was opened with ends."""

    token: Annotated[str, Meta(min_length=1, max_length=16_384)]


ClientFrame = Subscribe | Unsubscribe | Authenticate


class Problem(Struct, frozen=True, kw_only=True):
    """What is wrong, as RFC 9457 has it. `type` is stable, the rest is for people."""

    type: str
    title: str
    status: int
    detail: str


class Snapshot(Struct, frozen=True, tag_field="op", tag="snapshot"):
    """All rows of a subscription; those that were there before are to be forgotten.

    More rows than fit into a frame follow in deltas.
    """

    id: SubscriptionId
    position: Position
    rows: list[dict[str, Any]]


class Delta(Struct, frozen=True, tag_field="op", tag="delta"):
    """The whole rows that changed since `previous`, and the keys of rows that are gone."""

    id: SubscriptionId
    previous: Position
    position: Position
    rows: list[dict[str, Any]]
    removed: list[dict[str, Any]]


class ErrorFrame(Struct, frozen=True, tag_field="op", tag="error"):
    """What came is not taken, or a subscription has ended; `id` where it is known whose."""

    id: SubscriptionId | None
    problem: Problem


class Heartbeat(Struct, frozen=True, tag_field="op", tag="heartbeat"):
    """Told now and then: the position in the log that the read models have come to."""

    position: Position


_DECODER: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)
_ENCODER: Final = msgspec.json.Encoder()


class _Addressed(Struct):
    id: SubscriptionId | UnsetType = UNSET


class BadFrame(Exception):  # noqa: N818 - names what came
    """A frame that cannot be understood; `id` is whose it is, where it says so much."""

    def __init__(self, told_id: int | str | None, problem: Problem) -> None:
        self.id = told_id
        self.problem = problem
        super().__init__(problem.detail)


def read_frame(text: str) -> ClientFrame:
    """Return the frame that a client sent; raises BadFrame."""
    if len(text) > MAX_FRAME_BYTES:
        detail = f"a frame of {len(text)} characters; expected at most {MAX_FRAME_BYTES}"
        raise BadFrame(None, problem(INVALID_REQUEST, detail))
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise BadFrame(_told_id(text), problem(INVALID_REQUEST, str(error))) from None


def _told_id(text: str) -> int | str | None:
    try:
        told = msgspec.json.decode(text, type=_Addressed).id
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return None if told is UNSET else told


def write_frame(frame: ErrorFrame | Heartbeat) -> Frame:
    """Return a frame as it is sent."""
    return (_ENCODER.encode(frame),)


class SharedRows:
    """Rows of one frame, encoded once for all subscriptions that are sent them.

    However many those are, the rows are in memory once: each frame of many rows has them as a part
    of its own. What was made last is kept, for most subscriptions are told the same.
    """

    def __init__(self, rows: Iterable[bytes], position: str) -> None:
        self._rows = b",".join(rows)
        self._position = _ENCODER.encode(position)
        self._last: tuple[int | str, str | None, Frame] | None = None

    def frame(self, told_id: int | str, previous: str | None) -> Frame:
        """Return the frame for a subscription, a snapshot where `previous` is None."""
        last = self._last
        if last is not None and last[0] == told_id and last[1] == previous:
            return last[2]
        frame = self._snapshot(told_id) if previous is None else self._delta(told_id, previous)
        self._last = (told_id, previous, frame)
        return frame

    def _snapshot(self, told_id: int | str) -> Frame:
        told = (_ENCODER.encode(told_id), self._position)
        return self._made(b'{"op":"snapshot","id":%b,"position":%b,"rows":[' % told, b"]}")

    def _delta(self, told_id: int | str, previous: str) -> Frame:
        """Nothing is ever removed: a row that is closed stays, and says so."""
        told = (_ENCODER.encode(told_id), _ENCODER.encode(previous), self._position)
        head = b'{"op":"delta","id":%b,"previous":%b,"position":%b,"rows":[' % told
        return self._made(head, b'],"removed":[]}')

    def _made(self, head: bytes, tail: bytes) -> Frame:
        if len(self._rows) > _JOINED_BYTES:
            return head, self._rows, tail
        return (head + self._rows + tail,)


def problem(kind: Kind, detail: str) -> Problem:
    """Return a problem of a kind."""
    return Problem(type=kind.type, title=kind.title, status=kind.status, detail=detail)
