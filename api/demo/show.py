"""The demo's words and tables on standard output, plain text where it is no terminal."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from textwrap import fill
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.demo.market import Market
from api.demo.story import Chapter
from api.importing.run import Counts, Trouble
from api.views import Shown
from domain import money
from streams.verifying import Verdict

_WIDTH: Final = 100
_FEW: Final = 4
_ADDED: Final = ("cost_basis", "market_value", "unrealised_pnl")
"""What open positions add up to something in: closed ones have realised P&L and fees too."""
_POSITION: Final = {
    "account": "account",
    "instrument": "stock",
    "quantity": "shares",
    "cost_basis": "cost",
    "realised_pnl": "realised",
    "fees": "fees",
    "mark": "mark",
    "market_value": "value",
    "unrealised_pnl": "unrealised",
}
_MONEY: Final = frozenset(
    ("cost_basis", "realised_pnl", "fees", "market_value", "unrealised_pnl", "cost")
)

console = Console(width=_WIDTH, highlight=False, soft_wrap=False)


def introduction(market: Market, home: Path) -> None:
    """Say what is real and what is made up."""
    days = market.days
    _heading(f"Daybook: {', '.join(market.bars)}, {days[0]} to {days[-1]}")
    _say(
        "The prices are real (daily, from bokeh-sampledata). The trades are made up, by the rule at"
        f" the top of api/demo/history.py. All of it is in {home}/files, to look at."
    )


def imported(files: Iterable[tuple[Path, Counts, float]], troubles: Sequence[Trouble]) -> None:
    """Show what became of the files' facts, in one line for all, and of each trouble."""
    total, seconds, names = Counts(), 0.0, []
    for path, counts, took in files:
        names.append(path.name)
        total.add(counts)
        seconds += took
    _heading(f"Import {len(names)} files")
    _say(
        f"{total.read:,} facts read: {total.accepted:,} are new events, {total.duplicate:,} were"
        f" known already, {total.refused + total.rejected:,} not taken ({seconds:.1f} s)"
    )
    for trouble in troubles:
        _say(f"{trouble.file}:{trouble.line}: {trouble.field} {trouble.value}: {trouble.reason}")


def positions(title: str, shown: Shown) -> None:
    """Show positions and what they add up to."""
    _heading(title)
    rows = _dicts(shown)
    table = _table(_POSITION.values(), left=2)
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in _POSITION))
    added = {
        name: money.add(row[name] for row in rows if row[name] is not None)
        for name in _POSITION
        if name in _ADDED
    }
    table.add_row(*(_cell(name, added.get(name)) for name in _POSITION))
    console.print(table)


def lots(title: str, shown: Shown) -> None:
    """Show the first lots and the last."""
    _heading(title)
    rows = _dicts(shown)
    names = ("lot_id", "opened_at", "quantity", "remaining", "cost")
    table = _table(("lot", "opened", "shares", "left", "cost"), left=2)
    listed = rows if len(rows) <= _FEW + 1 else [*rows[: _FEW - 1], None, rows[-1]]
    for row in listed:
        if row is None:
            table.add_row("...", "", "", "", f"{len(rows)} lots")
        else:
            table.add_row(*(_cell(name, row[name]) for name in names))
    console.print(table)


def balances(shown: Shown) -> None:
    """Show cash."""
    _heading("Cash")
    for row in _dicts(shown):
        _say(f"{row['account']:<15}{_exact(row['balance']):>12} {row['currency']}")


def adds_up(positions: Shown, balances: Shown, cash: Shown) -> None:
    """Show what there is beside where it came from, unrounded: the two must be the same."""
    held, paid = _dicts(positions), _dicts(cash)
    value = _total(held, "market_value")
    balance = _total(_dicts(balances), "balance")
    deposits = _total([row for row in paid if row["kind"] == "deposit"], "amount")
    dividends = _total([row for row in paid if row["kind"] == "dividend"], "amount")
    realised, unrealised = _total(held, "realised_pnl"), _total(held, "unrealised_pnl")
    fees = _total(held, "fees")
    sources = money.add((deposits, dividends, realised, unrealised, -fees))
    _say(
        f"{_exact(value)} in shares and {_exact(balance)} in cash"
        f" {'=' if money.add((value, balance)) == sources else 'IS NOT'}"
        f" {_exact(deposits)} paid in + {_exact(dividends)} dividends + {_exact(realised)} realised"
        f" + {_exact(unrealised)} unrealised - {_exact(fees)} fees"
    )


def _total(rows: list[dict[str, Any]], name: str) -> Decimal:
    return money.add(row[name] for row in rows if row[name] is not None)


def _exact(amount: Decimal) -> str:
    return f"{money.normalized(amount):,f}"


def story(order_id: str, chapters: Iterable[Chapter]) -> None:
    """Show what happened to an order."""
    _heading(f"The story of order {order_id}, as the log has it")
    table = _table(("seq", "time (UTC)", "event", "then", "filled", "left"), left=4)
    for one in chapters:
        left = "" if one.leaves_quantity is None else money.to_plain(one.leaves_quantity)
        filled = money.to_plain(one.cum_quantity)
        table.add_row(str(one.seq), one.event_time[11:19], one.words, one.status, filled, left)
    console.print(table)


def verdict(found: Verdict, seconds: float) -> None:
    """Say whether the books equal the log."""
    _heading("Verify: every hash of the log, and the books against a fresh fold of it")
    _say(
        f"{found.records:,} records in {found.streams:,} streams, {found.rows:,} rows folded again"
    )
    for difference in found.differences:
        _say(f"{difference.where}: {difference.what}")
    if found.is_clean:
        _say(f"the chain of every stream holds, and the books equal the log ({seconds:.1f} s)")


def what_next(home: Path, past: str, account: str, portfolio: str) -> None:
    """Say what to try, as commands that work from here."""
    _heading("What to try next")
    for line in (
        f"export DAYBOOK_HOME={home}",
        ".venv/bin/daybook positions --method lifo",
        f".venv/bin/daybook balances --as-of {past}",
        f".venv/bin/daybook deals --as-of {past} --format parquet -o deals.parquet",
        f".venv/bin/daybook positions --portfolio {portfolio} --format json",
        f".venv/bin/daybook log --account {account} | head -3",
        f".venv/bin/daybook import {home}/files/deals.csv",
        ".venv/bin/daybook verify",
        ".venv/bin/daybook serve",
    ):
        console.print(Text(f"  {line}"), soft_wrap=True)  # to be copied whole


def _heading(text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _say(text: str) -> None:
    console.print(Text(fill(text, _WIDTH, subsequent_indent="  ")))


def _table(names: Iterable[str], left: int) -> Table:
    """Return a table whose first columns are text, and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    return table


def _dicts(shown: Shown) -> list[dict[str, Any]]:
    names = [name for name, _ in shown.columns]
    return [dict(zip(names, row, strict=True)) for row in shown.rows]


def _cell(name: str, value: Any) -> str:
    """Return a value for a table: money to the cent, as people read it; times as their date."""
    if value is None:
        return ""
    if name == "opened_at":
        return str(value)[:10]
    if name in _MONEY:
        return f"{value:,.2f}"
    return money.to_plain(value) if isinstance(value, Decimal) else str(value)
