"""Records of one type recognised in bulk, without decoding them: where their values stand.

What is recognised is what the ledger itself writes, and less than what `codec` accepts: members in
their order, none told at its default as an empty list, numbers in plain notation, texts of ASCII
without escapes. So nothing can be lost, and no encoding has to prove it. Whatever has another form
is not recognised, which says nothing about it: it is for `codec` to decode.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import numpy as np
from msgspec import Raw, Struct, UnsetType
from msgspec.structs import fields
from numpy.typing import NDArray

from domain.times import Day, Instant
from schemas.envelope import Envelope
from schemas.registry import CURRENT_VERSIONS, EVENT_STRUCTS

_EXACTLY, _MAYBE, _NAME, _MAYBE_NAME, _OPEN, _CLOSE, _GO_ON = range(7)
_TEXT, _WORD, _DECIMAL, _INTEGER, _TRUTH, _INSTANT, _TEXTS, _MEMBERS = range(7, 15)
"""Steps of a program, as `scan_loop` numbers them."""
_KINDS: Final[dict[Any, int]] = {
    str: _TEXT,
    Day: _TEXT,
    Decimal: _DECIMAL,
    int: _INTEGER,
    bool: _TRUTH,
    Instant: _INSTANT,
    tuple[str, ...]: _TEXTS,
    dict[str, str]: _MEMBERS,
}
_LARGEST: Final = 1 << 30
_NOT_NOTED: Final = -1


class Scanned(Struct, frozen=True, eq=False):
    """Values of records: by slot and record, in `data`, which `text` is with a character a byte.

    `recognised` says which records have any. A value that is absent begins at 0: no text is empty.
    """

    text: str
    data: NDArray[np.uint8]
    recognised: NDArray[np.bool_]
    slots: dict[str, int]
    spans: NDArray[np.int32]
    numbers: NDArray[np.int64]
    scales: NDArray[np.int32]

    def has(self, path: str) -> bool:
        """Tell whether any record has a member."""
        return bool(self.spans[self.slots[path], 0].any())

    def texts(self, path: str) -> list[str]:
        """Return a member's texts, '' where it is absent."""
        text = self.text
        if not self.has(path):
            return [""] * len(self.recognised)
        starts, ends = self.spans[self.slots[path]].tolist()
        return [text[start:end] for start, end in zip(starts, ends, strict=True)]

    def counts(self, path: str) -> list[int]:
        """Return a member's numbers: of a decimal its digits, of an Instant nanoseconds."""
        numbers: list[int] = self.numbers[self.slots[path]].tolist()
        return numbers

    def decimals(self, path: str) -> list[int]:
        """Return how many of a decimal's digits stand behind its point."""
        scales: list[int] = self.scales[self.slots[path]].tolist()
        return scales


class Scanner:
    """Recognises the records of one event type in its current version.

    `wanted` are the paths of the values that are noted: `seq`, `data.deal_id`,
    `data.fees.0.amount` ... `without` names members of the event that a recognised record does not
    have, and a list of parts, such as fees, has at most `most_parts`.
    """

    def __init__(
        self, type_name: str, wanted: Sequence[str], without: Iterable[str], most_parts: int
    ) -> None:
        self.slots = {path: slot for slot, path in enumerate(wanted)}
        self._most_parts = most_parts
        self._steps: list[tuple[int, int, int, int]] = []
        self._told = bytearray()
        self._truth = self._tell(b"truefalse")
        fixed = {"type": f'"{type_name}"', "version": str(CURRENT_VERSIONS[type_name])}
        self._data = EVENT_STRUCTS[type_name]
        self._without = frozenset(without)
        self._object(Envelope, "", fixed, frozenset(("key",)))
        self._program = np.array(self._steps, np.int32)
        self._bytes = np.frombuffer(bytes(self._told), np.uint8)

    def scan(self, values: Sequence[bytes]) -> Scanned | None:
        """Return what stands in records' values; None where they are too long together."""
        from schemas.scan_loop import scan  # numba: half a second to import

        joined = b"".join(values)
        if len(joined) > _LARGEST:
            return None
        count, slots = len(values), len(self.slots)
        ends = np.cumsum(np.fromiter(map(len, values), np.int64, count))
        spans = np.zeros((slots, 2, count), np.int32)
        numbers, scales = np.zeros((slots, count), np.int64), np.zeros((slots, count), np.int32)
        recognised = np.zeros(count, np.bool_)
        data = np.frombuffer(joined, np.uint8)
        scan(data, ends, self._program, self._bytes, spans, numbers, scales, recognised)
        text = joined.decode("latin-1")
        return Scanned(text, data, recognised, self.slots, spans, numbers, scales)

    # --- the program -----------------------------------------------------------------------------

    def _tell(self, told: bytes) -> int:
        self._told += told
        return len(self._told) - len(told)

    def _add(self, what: int, told: bytes = b"", other: int = 0) -> int:
        self._steps.append((what, self._tell(told), len(told), other))
        return len(self._steps) - 1

    def _go_on_here(self, step: int) -> None:
        what, start, size, _ = self._steps[step]
        self._steps[step] = (what, start, size, len(self._steps))

    def _object(
        self, struct: type[Struct], prefix: str, fixed: dict[str, str], without: frozenset[str]
    ) -> None:
        hints = get_type_hints(struct)
        self._add(_OPEN)
        for member in fields(struct):
            if member.name in without:
                continue
            name = f',"{member.encode_name}":'.encode()
            may_lack = not member.required and member.name not in fixed
            step = self._add(_MAYBE_NAME if may_lack else _NAME, name)
            if member.name in fixed:
                self._add(_EXACTLY, fixed[member.name].encode())
            else:
                self._value(hints[member.name], f"{prefix}{member.name}")
            if may_lack:
                self._go_on_here(step)
        self._add(_CLOSE)

    def _value(self, hint: Any, path: str) -> None:
        options = [one for one in get_args(hint) if one not in (type(None), UnsetType)]
        if get_origin(hint) not in (Literal, tuple, dict) and len(options) == 1:
            hint, options = options[0], list(get_args(options[0]))
        if hint is Raw:
            self._object(self._data, "data.", {}, self._without)
        elif get_origin(hint) is Literal:
            words = b"".join(bytes([len(one)]) + one.encode() for one in options)
            self._note(_WORD, path, self._tell(words + b"\0"))
        elif get_origin(hint) is tuple and options[0] is not str:
            self._list(options[0], path)
        elif isinstance(hint, type) and issubclass(hint, Struct):
            self._object(hint, f"{path}.", {}, frozenset())
        else:
            self._note(_KINDS[hint], path, self._truth)

    def _list(self, struct: type[Struct], path: str) -> None:
        empty = self._add(_MAYBE, b"[]")
        leave = self._add(_GO_ON)
        self._go_on_here(empty)
        self._add(_EXACTLY, b"[")
        more = []
        for number in range(self._most_parts):
            if number:
                more.append(self._add(_MAYBE, b","))
            self._object(struct, f"{path}.{number}.", {}, frozenset())
        for step in more:
            self._go_on_here(step)
        self._add(_EXACTLY, b"]")
        self._go_on_here(leave)

    def _note(self, what: int, path: str, told: int) -> None:
        self._steps.append((what, told, 0, self.slots.get(path, _NOT_NOTED)))
