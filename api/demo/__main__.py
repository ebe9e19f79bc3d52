"""`python -m api.demo [HOME]`: make the demo's history, import it, show and verify the books.

The ledger is a folder of its own, `.daybook-demo` unless told otherwise, and its settings are the
defaults: the demo neither reads nor writes any other ledger. It ends by itself.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from api.cli.progress import progress_bar
from api.demo import show
from api.demo.files import write_files
from api.demo.history import EQUAL, MOMENTUM, PORTFOLIO, make_history
from api.demo.market import read_market
from api.demo.story import most_eventful, order_events, tell
from api.importing.run import Counts, Told, Trouble, import_file
from api.questions import Asker, Question, as_of_from
from api.read_models import READ_MODELS
from api.views import Shown
from api.wiring import Parts, running
from infra.errors import InfraError
from infra.settings import load_settings
from streams.past import stream_events
from streams.verifying import verify

HOME: Final = ".daybook-demo"
PAST: Final = "2008-10-10"
"""A Friday: the end of the worst week that the Dow Jones had had."""
_ALL: Final = Question()
_FOUND_WRONG: Final = 1
_NOT_AVAILABLE: Final = 3


def main(arguments: list[str]) -> int:
    """Run the demo; return 0, 1 when something was found wrong, 3 when a part is missing."""
    home = Path(arguments[0] if arguments else HOME)
    try:
        market = read_market()
    except ModuleNotFoundError as error:
        sys.stderr.write(f"the demo needs the prices of bokeh-sampledata: {error}\n")
        return _NOT_AVAILABLE
    history = make_history(market)
    paths = write_files(history, home / "files")
    show.introduction(market, home)
    try:
        with running(load_settings(home.resolve(), environ={}, folder=home)) as parts:
            is_sound = _show_books(parts, paths)
    except InfraError as error:
        sys.stderr.write(f"the demo: {error}\n")
        return _NOT_AVAILABLE
    show.what_next(home, PAST, EQUAL, PORTFOLIO)
    if not is_sound:
        return _FOUND_WRONG
    return _offer_page(home)


def _offer_page(home: Path) -> int:
    """Ask a person at a terminal whether to serve the book; return the exit status."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return 0
    sys.stdout.write("\nLook at it in a browser? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        return 0
    # Serving takes a second to load, and most runs of the demo do not serve.
    from api.cli.serve import Serving, run_serve

    return run_serve(home.resolve(), Serving(host="127.0.0.1", port=8000))


def _show_books(parts: Parts, paths: list[Path]) -> bool:
    """Import the files, then ask the ledger; tell whether all was found as it must be."""
    troubles: list[Trouble] = []
    show.imported(_import(parts, paths, troubles), troubles)
    is_open = Question(open_only=True)
    positions = _ask(parts, "positions", is_open)
    show.positions("The book: open positions at the last close", positions)
    past = Question(open_only=True, as_of=as_of_from(PAST))
    show.positions(f"The same book as it was on {PAST}", _ask(parts, "positions", past))
    instrument = positions.rows[0][1]
    asked = Question(account=EQUAL, instrument=instrument, open_only=True)
    lots = _ask(parts, "lots", asked)
    show.lots(f"The lots of {instrument} in {EQUAL}, first in first out", lots)
    balances = _ask(parts, "balances")
    show.balances(balances)
    show.adds_up(_ask(parts, "positions"), balances, _ask(parts, "cash"))
    head = parts.past.end_of("events", MOMENTUM, None)
    by_order = order_events(stream_events(parts.log, "events", MOMENTUM, head))
    order_id = most_eventful(by_order)
    show.story(order_id, tell(by_order[order_id]))
    started = time.monotonic()
    verdict = verify(parts.log, parts.models)
    show.verdict(verdict, time.monotonic() - started)
    return verdict.is_clean and not troubles


def _ask(parts: Parts, name: str, question: Question = _ALL) -> Shown:
    return READ_MODELS[name].ask(Asker(parts, question))


def _import(
    parts: Parts, paths: list[Path], troubles: list[Trouble]
) -> Iterator[tuple[Path, Counts, float]]:
    """Import files in order; yield what became of each, and the seconds it took."""
    for path in paths:
        started = time.monotonic()
        with progress_bar(str(path)) as progress:
            counts = import_file(parts, str(path), Told(), troubles.append, progress)
        yield path, counts, time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
