"""The commands that show read models."""

from pathlib import Path
from typing import Final

from api.cli.output import Format

QUERY_HELP: Final = {
    "accounts": "Show accounts and their settings.",
    "orders": "Show orders with their status, what is filled and what they leave.",
    "deals": "Show deals, one row for each chain of corrections.",
    "cash": "Show cash that moved without a deal.",
    "movements": "Show units that moved without a deal.",
    "balances": "Show cash by account and currency, by trade date and settled.",
    "positions": "Show positions with cost, P&L and, where there is a price, their value.",
    "lots": "Show the lots that positions are made of.",
    "instruments": "Show instruments as defined last.",
    "prices": "Show prices.",
}


def answer_query(
    home: Path | None,
    name: str,
    *,
    account: str | None,
    portfolio: str | None,
    instrument: str | None,
    as_of: str | None,
    known_at: str | None,
    method: str | None,
    only_open: bool,
    chosen: Format,
    output: Path | None,
) -> None:
    """Ask one question and write the answer; the vector that a time led to goes to stderr."""
    from api.cli.output import write
    from api.questions import (
        Asker,
        Question,
        as_of_from,
        known_at_from,
        method_from,
    )
    from api.read_models import READ_MODELS
    from api.wiring import running
    from infra.settings import load_settings

    question = Question(
        account=account,
        portfolio=portfolio,
        instrument=instrument,
        as_of=as_of_from(as_of),
        known_at=known_at_from(known_at),
        method=method_from(method),
        open_only=only_open,
    )
    with running(load_settings(home)) as parts:
        asker = Asker(parts, question)
        if isinstance(question.known_at, str):
            _tell_vector(asker)
        write(READ_MODELS[name].ask(asker), chosen, output)


def _tell_vector(asker: "object") -> None:
    import sys

    from api.questions import Asker
    from streams.positions import to_text

    assert isinstance(asker, Asker)
    assert asker.known_at is not None
    provisional = " (provisional: earlier records may still come)"
    note = provisional if asker.known_at.provisional else ""
    sys.stderr.write(f"known at {to_text(asker.known_at)}{note}\n")
