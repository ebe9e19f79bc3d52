"""The reference of the command line is what the command line says."""

from api.cli.reference import PAGE, reference


def test_the_page_is_up_to_date() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == reference(), "run `python -m api.cli.reference`"


def test_every_command_of_the_page_has_its_options() -> None:
    page = reference()
    assert "`daybook import FILE...`" in page
    assert "| `--as-of AS_OF` | What was true then. |" in page
    assert "`daybook positions`" in page
