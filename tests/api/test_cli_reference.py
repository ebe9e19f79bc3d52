"""The reference of the command line is what the command line says."""

import typer

from api.cli.main import app
from api.cli.reference import PAGE, commands_of, reference

NOT_THERE_YET = {"pnl", "returns", "risk", "attribution"}


def test_the_page_is_up_to_date() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == reference(), "run `python -m api.cli.reference`"


def test_every_command_of_the_page_has_its_options() -> None:
    page = reference()
    assert "`daybook import FILE...`" in page
    assert "| `--as-of AS_OF` | What was true then: 2024-01-05, or 2024-01-05T15:00:00Z. |" in page
    assert "`daybook positions`" in page
    assert "`daybook infra up`" in page


def test_every_command_shows_an_example_with_options_that_it_has() -> None:
    examples = {}
    for name, command in commands_of(typer.main.get_command(app)):
        if name not in NOT_THERE_YET:
            examples[name] = command.epilog.removeprefix("Example: ")
            assert f"daybook {name}" in examples[name]
            known = {option for parameter in command.params for option in parameter.opts}
            told = {word for word in examples[name].split() if word.startswith("-")}
            assert told <= known, name
    assert len(examples) > 20
