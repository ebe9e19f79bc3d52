"""The commands that show read models."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.cli.output import Format
from domain.errors import InvalidValue
from domain.identifiers import check_id

if TYPE_CHECKING:
    from api.questions import Question
    from api.wiring import Parts
    from streams.positions import KnownAt

QUERY_EXAMPLES: Final = {
    "accounts": "daybook accounts --portfolio GROWTH",
    "orders": "daybook orders --account A1 --as-of 2024-01-04T15:00:00Z",
    "deals": "daybook deals --account A1 --format parquet -o deals.parquet",
    "cash": "daybook cash --account A1 --format csv",
    "movements": "daybook movements --account A1",
    "balances": "daybook balances --as-of 2024-01-05",
    "positions": "daybook positions --open --as-of 2024-01-05 --known-at 2024-01-31",
    "lots": "daybook lots --account A1 --instrument AAPL --method hifo",
    "instruments": "daybook instruments --format json",
    "prices": "daybook prices --instrument AAPL --as-of 2024-01-05",
}
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
_OF_LOTS: Final = ("--method", "--open")
_MEANINGLESS: Final = {
    "accounts": ("--instrument", *_OF_LOTS),
    "balances": ("--instrument", *_OF_LOTS),
    "instruments": ("--account", "--portfolio", *_OF_LOTS),
    "prices": ("--account", "--portfolio", *_OF_LOTS),
    "positions": (),
    "lots": (),
}
"""The options that change nothing about a query; for the others, those of lots."""


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
    from api.questions import Asker, Question, as_of_from, known_at_from, method_from
    from api.read_models import READ_MODELS
    from api.wiring import running
    from infra.settings import load_settings

    with _naming_options():
        question = Question(
            account=_checked(account, "account"),
            portfolio=_checked(portfolio, "portfolio"),
            instrument=_checked(instrument, "instrument"),
            as_of=as_of_from(as_of),
            known_at=known_at_from(known_at),
            method=method_from(method),
            open_only=only_open,
        )
    _tell_ignored(name, question)
    with running(load_settings(home)) as parts:
        with _naming_options():
            asker = Asker(parts, question)
        known = asker.known_at
        if known is not None and (isinstance(question.known_at, str) or known.left_out):
            _tell_vector(known)
        shown = READ_MODELS[name].ask(asker)
        if not shown.rows:
            _tell_unknown(parts, question)
        write(shown, chosen, output)


@contextmanager
def _naming_options() -> Iterator[None]:
    """Let refused values go by the names of their options: `as_of` is `--as-of` here."""
    try:
        yield
    except InvalidValue as error:
        option = "--" + error.field.replace("_", "-")
        raise InvalidValue(option, error.value, error.expected) from None


def _checked(text: str | None, field: str) -> str | None:
    return None if text is None else check_id(text, field)


def _tell_ignored(name: str, question: "Question") -> None:
    """Say which of the options told have no meaning for the query, so that none is relied on."""
    told = {
        "--account": question.account,
        "--portfolio": question.portfolio,
        "--instrument": question.instrument,
        "--method": question.method,
        "--open": question.open_only,
    }
    for option in _MEANINGLESS.get(name, _OF_LOTS):
        if told[option]:
            sys.stderr.write(f"daybook: {option} makes no difference to {name}\n")


def _tell_unknown(parts: "Parts", question: "Question") -> None:
    """Say what was asked about and is not in the ledger, where the answer has no rows."""
    from api.questions import Asker, Question
    from api.views import ACCOUNTS_VIEW

    def of(asked: Question) -> Asker:
        return Asker(parts, asked, is_current=True)

    account, portfolio, instrument = question.account, question.portfolio, question.instrument
    if account and not of(Question(account=account)).events_rows(ACCOUNTS_VIEW):
        sys.stderr.write(f"daybook: the ledger knows no account {account!r}\n")
    if portfolio and not of(Question(portfolio=portfolio)).accounts_asked:
        sys.stderr.write(f"daybook: the ledger knows no account in portfolio {portfolio!r}\n")
    if instrument and not of(Question(instrument=instrument)).instrument_rows():
        sys.stderr.write(f"daybook: the ledger knows no instrument {instrument!r}\n")


def _tell_vector(known_at: "KnownAt") -> None:
    from streams.positions import to_text

    note = " (provisional: earlier records may still come)" if known_at.provisional else ""
    if known_at.left_out:
        note = f"; of {' and '.join(known_at.left_out)} all that is known now"
    sys.stderr.write(f"known at {to_text(known_at)}{note}\n")
