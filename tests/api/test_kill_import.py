"""SIGKILL at random moments of an import: the import after it leaves what an undisturbed one does.

DAYBOOK_KILLS says how many (8 unless told), DAYBOOK_KILL_SEED at which moments.
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.api.command_line import CommandLine
from tests.api.conftest import NewDaybook

KILLS = int(os.environ.get("DAYBOOK_KILLS", "8"))
SEED = int(os.environ.get("DAYBOOK_KILL_SEED", str(random.SystemRandom().randrange(10**6))))
POSTMASTER_TOO = 4
"""In every fourth round the database server is killed as well."""

MADE_BY_THE_LEDGER = ("id", "recorded_time", "term", "prev_hash", "basis", "position", "hash")
"""What differs between two runs that are the same. So does a note's digest, salted each time."""


def deals() -> str:
    """Deals of seven accounts: some late, corrected, busted, told again, with ids taken before."""
    rows = ["account,deal_id,instrument,side,quantity,price,currency,event_time,action,ref_deal_id"]
    for n in range(8000):
        day = 28 - n % 27 if n % 10 == 0 else 1 + n * 27 // 8000
        side = "sell" if n % 3 == 0 else "buy"
        when = f"2024-03-{day:02d}T10:{n % 60:02d}:{n // 60 % 60:02d}Z"
        terms = f"I{n % 23},{side},{1 + n % 17},{100 + n % 31}.{n % 100:02d},USD,{when}"
        rows.append(f"A{n % 7},d{n},{terms},,")
        if n % 97 == 50:
            rows.append(f"A{n % 7},c{n},{terms.replace(',USD', '1,USD')},correct,d{n}")
        if n % 131 == 60:
            rows.append(f"A{n % 7},b{n},{terms},bust,d{n}")
        if n % 401 == 70:
            rows.append(f"A{n % 7},d{n},{terms.replace('I', 'J')},,")
    return "\n".join(rows) + "\n"


def cash() -> str:
    rows = ["account,cash_id,kind,amount,currency,event_time,note"]
    for n in range(1500):
        when = f"2024-03-{1 + n % 28:02d}T09:00:00Z"
        rows.append(f"A{n % 9},k{n},deposit,{n}.25,USD,{when},note {n}")
    return "\n".join(rows) + "\n"


class Books(Struct, frozen=True):
    """What a ledger came to."""

    verdict: str
    positions: Any
    events: dict[str, list[Any]]
    kept_files: set[str]


def books_of(daybook: CommandLine) -> Books:
    verdict = daybook.good("verify").out
    events: dict[str, list[Any]] = {}
    for topic in ("events", "reference"):
        for line in daybook.good("log", "--topic", topic).lines:
            if line["type"] == "LogCreated":
                continue
            stream = line.get("account") or line["key"]
            for name in MADE_BY_THE_LEDGER:
                line.pop(name, None)
            line["data"].pop("note_digest", None)
            events.setdefault(f"{topic}/{stream}", []).append(line)
    kept = {path.name for path in (daybook.home / "imported").iterdir()}
    return Books(verdict, daybook.rows("positions"), events, kept)


def files(daybook: CommandLine) -> list[str]:
    return [daybook.write("deals.csv", deals()), daybook.write("cash.csv", cash())]


class Undisturbed(Struct, frozen=True):
    """An import that nothing disturbed: what it came to, what it said, how long it took."""

    books: Books
    counts: dict[str, Any]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(new_daybook: NewDaybook) -> Undisturbed:
    daybook = new_daybook()
    started = time.monotonic()
    done = daybook("import", *files(daybook), "--json")
    seconds = time.monotonic() - started
    counts = done.json
    assert (done.code, counts["rejected"]) == (1, 0)
    assert counts["refused"] == 20
    return Undisturbed(books_of(daybook), counts, seconds)


def test_importing_twice_changes_nothing(undisturbed: Undisturbed, daybook: CommandLine) -> None:
    names = files(daybook)
    daybook("import", *names)
    before = daybook.good("log").out
    done = daybook("import", *names, "--json")
    assert daybook.good("log").out == before
    assert (done.code, done.json["problems"]) == (0, [])
    assert done.json["duplicate"] == done.json["read"] == undisturbed.counts["read"]
    assert books_of(daybook) == undisturbed.books


@pytest.mark.parametrize("number", range(KILLS))
def test_a_killed_import_is_made_good_by_the_next(
    undisturbed: Undisturbed,
    new_daybook: NewDaybook,
    tmp_path: Path,
    number: int,
) -> None:
    moment = random.Random(f"{SEED}/{number}").random() * undisturbed.seconds
    both = number % POSTMASTER_TOO == POSTMASTER_TOO - 1
    daybook = CommandLine(tmp_path) if both else new_daybook()
    names = files(daybook)
    with daybook.start("import", *names, "--json") as process:
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        if both:
            _kill_postmaster(daybook.home)
        process.communicate()
    done = daybook("import", *names, "--json")
    counts = done.json
    facts = {name: undisturbed.counts[name] for name in ("read", "rejected", "listed")}
    assert {name: counts[name] for name in facts} == facts
    assert counts["accepted"] + counts["duplicate"] + counts["refused"] == counts["read"]
    told = f"killed after {moment:.3f} s; to do it again: DAYBOOK_KILL_SEED={SEED}"
    assert books_of(daybook) == undisturbed.books, told


def _kill_postmaster(home: Path) -> None:
    """Kill the server of a home, if there is one by now."""
    for told in (home / "postgres").rglob("postmaster.pid"):
        # It may be coming up or gone: then there is nothing to kill.
        with contextlib.suppress(OSError, IndexError, ValueError):
            pid = abs(int(told.read_text().split()[0]))  # below zero while initdb is at work
            if b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
