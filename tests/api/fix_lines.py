"""FIX messages for tests, built from tag=value pairs with a length and checksum of their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api.importing.fix import read_fix
from api.importing.lines import Fact, Line, Options
from domain.commands import Command

Pairs = Sequence[tuple[int, object]]


def message(kind: str, pairs: Pairs, *, ender: bytes = b"\x01", encoding: str = "latin-1") -> bytes:
    """A message with the standard header and trailer around what is told."""
    head = [(35, kind), (49, "BUYER"), (56, "BROKER"), (34, 1)]
    if not any(tag == 52 for tag, _ in pairs):
        head.append((52, "20240102-14:30:00.000"))
    body = "".join(f"{tag}={value}\x01" for tag, value in [*head, *pairs]).encode(encoding)
    sent = f"8=FIX.4.4\x019={len(body)}\x01".encode() + body
    total = 0
    for byte in sent:
        total = (total + byte) % 256
    return (sent + f"10={total:03d}\x01".encode()).replace(b"\x01", ender)


def order(**changes: object) -> bytes:
    """A NewOrderSingle; keywords are `t38=...`, and None leaves a field out."""
    return message("D", changed(ORDER, changes))


def execution(exec_type: str, **changes: object) -> bytes:
    """An ExecutionReport of ClOrdID a1."""
    return message("8", changed([*EXECUTION, (150, exec_type)], changes))


def fill(quantity: int, price: object, **changes: object) -> bytes:
    """An ExecutionReport of a trade."""
    return execution("F", **{"t32": quantity, "t31": price, **changes})


def changed(pairs: Pairs, changes: dict[str, object]) -> list[tuple[int, object]]:
    told: dict[int, object] = dict(pairs)
    told.update((int(name[1:]), value) for name, value in changes.items())
    return [(tag, value) for tag, value in told.items() if value is not None]


def read(path: Path, *lines: bytes, account: str | None = None, **more: Any) -> list[Line]:
    """The lines of a file of these messages, as they are read."""
    path.mkdir(exist_ok=True, parents=True)
    file = path / "told.fix"
    file.write_bytes(b"\n".join(lines) + b"\n")
    return list(read_fix(str(file), Options(digest="d" * 64, account=account, **more)))


def only(lines: list[Line]) -> Command:
    """The command of the last line, whose order the lines before may have placed."""
    assert lines, "no lines"
    assert isinstance(lines[-1], Fact), lines[-1]
    return lines[-1].request.command


ORDER: Pairs = [
    (1, "A1"),
    (11, "a1"),
    (55, "AAPL"),
    (54, 1),
    (38, 100),
    (40, 2),
    (44, "185.50"),
    (59, 0),
    (60, "20240102-14:30:00.123"),
]
EXECUTION: Pairs = [
    (1, "A1"),
    (11, "a1"),
    (37, "V1"),
    (17, "e1"),
    (55, "AAPL"),
    (54, 1),
    (38, 100),
    (60, "20240102-14:30:01.5"),
]
