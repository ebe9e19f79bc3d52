"""Write docs/reference/cli.md from the commands themselves: `python -m api.cli.reference`."""

import sys
from collections.abc import Iterator
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import typer

from api.cli.main import app

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
_HEADER: Final = """\
# Command line

Written by `python -m api.cli.reference` from `api/cli/main.py`; do not edit.

Results go to standard output, progress and messages to standard error. Two commands at once on one
home work. `--home`, given before the name of a command or after it, overrides `DAYBOOK_HOME`.

| exit status | means |
| --- | --- |
| 0 | done |
| 1 | done, and something was found wrong: lines rejected, a check failed |
| 2 | used wrongly |
| 3 | a part that it needs is not available |
"""


def reference() -> str:
    """Return the page as Markdown; neighbours with the same options share one table."""
    commands = [
        (f"{name}{_arguments(command)}", _summary(name, command), _options(command))
        for name, command in commands_of(typer.main.get_command(app))
    ]
    sections = [_HEADER]
    for options, together in groupby(commands, key=lambda command: command[2]):
        members = list(together)
        sections.append("## " + ", ".join(_name(usage) for usage, _, _ in members) + "\n")
        sections.append(
            "".join(f"- `daybook {usage}`: {summary}\n" for usage, summary, _ in members)
        )
        if options:
            sections.append(options)
    return "\n".join(sections)


def commands_of(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command with its name, those of groups under the group's."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _name(usage: str) -> str:
    return " ".join(word for word in usage.split() if word.strip("-").islower())


def _summary(name: str, command: Any) -> str:
    """Return the first paragraph of a command's help, and an example of more than its name."""
    first = " ".join((command.help or "").split("\n\n")[0].split())
    example = (command.epilog or "").removeprefix("Example: ")
    return first if example in ("", f"daybook {name}") else f"{first} `{example}`"


def _arguments(command: Any) -> str:
    told = ""
    for one in command.params:
        if one.param_type_name == "argument":
            name = one.metavar or one.name.upper()
            told += f" {name}" if one.required else f" [{name}]"
    return told


def _options(command: Any) -> str:
    rows = [_row(one) for one in command.params if one.help]
    return "\n".join(["| option | means |", "| --- | --- |", *rows, ""]) if rows else ""


def _row(one: Any) -> str:
    if one.param_type_name == "argument":
        return f"| `{one.metavar or one.name.upper()}` | {one.help} |"
    value = "" if one.is_flag else " " + _value_name(one)
    default = one.default.value if isinstance(one.default, Enum) else one.default
    told = f" Default: `{default}`." if default and not one.is_flag else ""
    return f"| `{', '.join(one.opts)}{value}` | {one.help}{told} |"


def _value_name(one: Any) -> str:
    if isinstance(one.default, Enum):
        return "\\|".join(member.value for member in type(one.default))
    return str(one.metavar or one.name.upper())


def main() -> None:
    """Write the page."""
    PAGE.write_text(reference(), encoding="utf-8")
    sys.stderr.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
