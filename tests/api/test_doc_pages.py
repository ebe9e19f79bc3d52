"""What the pages tell to type works and prints what they say; their links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.embedded import embedded_server
from tests.api.command_line import DAYBOOK

ROOT = Path(__file__).resolve().parents[2]
TOLD_IN_ORDER = ("import", "ask-the-past", "submit-commands", "move-transfer", "analyse", "prove")
"""Pages that go on with one book, each where the one before it ended."""
PAGES = sorted(
    [
        *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "api" / "client" / "README.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
PART = re.compile(r"^`([\w-]+\.(?:csv|jsonl|py))`|^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LATER = ("--known-at 2026", "log --account A1 --after", "log --account OLD --after", "cat ")
"""Commands whose answer has times or hashes of the run itself; the hash of a chain is another."""
HASH = re.compile(r"\b[0-9a-f]{64}\b")


class Reader:
    """Somebody who works through the pages: writes the files, types the commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tests").symlink_to(ROOT / "tests")
        kept = {name: text for name, text in os.environ.items() if not name.startswith("DAYBOOK_")}
        path = f"{Path(DAYBOOK).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**kept, "PATH": path, "DAYBOOK_HOME": str(folder / "book")}

    def works_through(self, text: str) -> Iterator[tuple[str, str, str]]:
        """Yield each command with what the page says that it prints, and what it printed."""
        name = None
        for told, kind, body in PART.findall(text):
            if told:
                name = told
            elif kind == "console":
                yield from self._types(body)
            elif name is not None:
                unwrapped = re.sub(r"\n +", " ", body) if name.endswith(".jsonl") else body
                (self.folder / name).write_text(unwrapped, encoding="utf-8")
                name = None
            elif kind == "python":
                (self.folder / "block.py").write_text(body, encoding="utf-8")
                yield "python", "", self._run(f"{shlex.quote(sys.executable)} block.py")

    def _types(self, block: str) -> Iterator[tuple[str, str, str]]:
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, said = entry.partition("\n")
            if command.startswith("export DAYBOOK_HOME="):
                self.environment["DAYBOOK_HOME"] = command.partition("=")[2].replace(
                    "$PWD", str(self.folder)
                )
            else:
                yield command, said, self._run(command)

    def _run(self, command: str) -> str:
        done = subprocess.run(
            command,
            shell=True,
            check=False,  # some are to fail: the page shows what they say
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


@pytest.mark.timeout(1500)  # some fifty commands, each a process
def test_the_pages_print_what_they_say(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    commands = 0
    with embedded_server(tmp_path / "book"):  # up for all of it, not started for each command
        for name in TOLD_IN_ORDER:
            reader.environment["DAYBOOK_HOME"] = str(tmp_path / "book")
            page = (ROOT / "docs" / "how-to" / f"{name}.md").read_text(encoding="utf-8")
            for command, said, printed in reader.works_through(page):
                commands += 1
                assert "Traceback" not in printed, (name, command, printed)
                if not any(part in command for part in LATER):
                    assert HASH.sub("...", printed) == HASH.sub("...", said), (name, command)
    assert commands > 30


def test_the_five_minutes_of_the_readme_print_what_they_say(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = readme.partition("\n## In five minutes\n")[2].partition("\n## ")[0]
    setup = "$ make setup && export PATH=$PWD/.venv/bin:$PATH DAYBOOK_HOME=$PWD/book\n"
    assert setup in told  # what the reader here has already
    with embedded_server(tmp_path / "book"):
        done = list(Reader(tmp_path).works_through(told.replace(setup, "")))
    assert [command for command, _, _ in done].count("python") == 2
    for command, said, printed in done:
        assert "Traceback" not in printed, (command, printed)
        assert command == "python" or printed == said, command
    assert "'AAPL'" in done[-1][2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, heading = link.partition("#")
        if not file.startswith(("http:", "https:")):
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not heading or heading in _headings(target), link


def _headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
