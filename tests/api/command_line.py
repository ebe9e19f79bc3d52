"""The installed command line, run as other people's scripts run it: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from msgspec import Struct

DAYBOOK = Path(sys.executable).with_name("daybook")


class Done(Struct, frozen=True):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """`daybook` on one home, in a folder of its own; `told` are further settings."""

    def __init__(self, folder: Path, **told: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.home = folder / "home"
        kept = {name: text for name, text in os.environ.items() if not name.startswith("DAYBOOK_")}
        self.environment = {**kept, "DAYBOOK_HOME": str(self.home), **told}

    def start(self, *words: str, **how: Any) -> "subprocess.Popen[str]":
        """Start a command and return at once; its streams are pipes unless told otherwise."""
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            [DAYBOOK, *words],
            cwd=self.folder,
            env=self.environment,
            text=True,
            **{**streams, **how},
        )

    def __call__(self, *words: str, given: str = "") -> Done:
        """Run a command to its end. No end but a foreseen one leaves a traceback."""
        with self.start(*words) as process:
            try:
                out, err = process.communicate(given, timeout=240)
            finally:
                process.kill()
        assert "Traceback" not in err, err
        return Done(process.returncode, out, err)

    def good(self, *words: str, given: str = "") -> Done:
        """Run a command that must end with nothing found wrong."""
        done = self(*words, given=given)
        assert done.code == 0, (words, done)
        return done

    def rows(self, query: str, *options: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        rows: list[dict[str, Any]] = self.good(query, "--format", "json", *options).json
        return rows

    def write(self, name: str, content: str | bytes) -> str:
        """Write a file into the folder; return its name."""
        data = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(data)
        return name

    def imported(self, name: str, content: str | bytes, *options: str) -> dict[str, Any]:
        """Write and import a file in which all is well; return the counts."""
        counts: dict[str, Any] = self.good(
            "import", self.write(name, content), "--json", *options
        ).json
        return counts

    def submitted(self, *commands: dict[str, Any]) -> list[dict[str, Any]]:
        """Submit commands; return the answers, whatever they are."""
        return self("submit", "-", given="".join(map(json_line, commands))).lines


def json_line(command: dict[str, Any]) -> str:
    """Return a command as a line of JSON Lines."""
    return json.dumps(command) + "\n"


def command(command_id: str, kind: str, account: str, time: str, /, **data: Any) -> dict[str, Any]:
    """Return a command as `submit` takes it."""
    return {
        "command_id": command_id,
        "type": kind,
        "account": account,
        "event_time": time,
        "data": data,
    }
