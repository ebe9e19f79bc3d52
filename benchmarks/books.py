"""Books to measure on: deals made by a seeded rule, imported into a home of their own."""

import contextlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from api.importing.run import Told, Trouble, import_file
from api.wiring import Parts, running
from infra.embedded import embedded_server
from infra.settings import Settings, load_settings

HEADER: Final = (
    "account,deal_id,instrument,side,quantity,price,currency,fee,event_time,trade_date\n"
)
ACCOUNTS: Final = 20
INSTRUMENTS: Final = 100
_SECONDS_A_DAY: Final = 23_400


def write_deals(
    path: Path, deals: int, accounts: int = ACCOUNTS, instruments: int = INSTRUMENTS, seed: int = 1
) -> None:
    """Write deals in time order as CSV: accounts and instruments drawn evenly, each with a fee."""
    draw = random.Random(seed)
    with path.open("w") as file:
        file.write(HEADER)
        for n in range(deals):
            day, second = divmod(n, _SECONDS_A_DAY)
            date = f"2024-{day // 28 % 12 + 1:02}-{day % 28 + 1:02}"
            hour, minute = divmod(second // 60, 60)
            file.write(
                f"A{draw.randrange(accounts):05},D{n:08},I{draw.randrange(instruments):03},"
                f"{'buy' if draw.random() < 0.6 else 'sell'},{draw.randrange(1, 500)},"
                f"{draw.randrange(9_000, 11_000) / 100:.2f},USD,{draw.randrange(1, 300) / 100:.2f},"
                f"{date}T{14 + hour:02}:{minute:02}:{second % 60:02}Z,{date}\n"
            )


class Home(Struct, frozen=True):
    """A home whose server is up: its settings and the server's URL."""

    settings: Settings
    dsn: str

    @property
    def folder(self) -> Path:
        """Return the home's folder."""
        return self.settings.home


@contextlib.contextmanager
def fresh_home() -> Iterator[Home]:
    """Give a home of its own, its server up and empty, for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as folder:
        settings = load_settings(folder, environ={}, folder=Path(folder))
        with embedded_server(settings.home) as dsn:
            yield Home(settings, dsn)


@contextlib.contextmanager
def imported_book(
    deals: int, accounts: int = ACCOUNTS, instruments: int = INSTRUMENTS
) -> Iterator[Parts]:
    """Give the parts of a home into which deals were imported; read models are still empty."""
    with fresh_home() as home, running(home.settings) as parts:
        path = home.folder / "deals.csv"
        write_deals(path, deals, accounts, instruments)
        import_deals(parts, path, deals)
        yield parts


def import_deals(parts: Parts, path: Path, deals: int) -> None:
    """Import deals that are all expected to be accepted."""
    counts = import_file(parts, str(path), Told(), refuse)
    assert counts.accepted == deals, counts


def refuse(trouble: Trouble) -> None:
    """Stop at a line that was not recorded."""
    raise AssertionError(trouble)
