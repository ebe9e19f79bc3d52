"""Programs that nobody here wrote: the official AsyncAPI parser, and the WebSocket of npm."""

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest

from api.http.feed import asyncapi
from tests.api.http.feed.serving import Served
from tests.streams import requests as made

INSTALL_S = 180
PARSE = """
const { Parser } = require("@asyncapi/parser");
new Parser().parse(require("fs").readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  const faults = diagnostics.filter((one) => one.severity < 2).map((one) => one.message);
  console.log(JSON.stringify({ isDocument: document !== undefined, faults }));
});
"""
FOLLOW = """
const WebSocket = require("ws");
const [url, wanted] = process.argv.slice(1);
const socket = new WebSocket(url);
const frames = [];
const ids = new Set();
socket.on("open", () => {
  socket.send(JSON.stringify({ op: "subscribe", id: 1, topic: "deals", account: "A1" }));
});
socket.on("message", (data) => {
  const frame = JSON.parse(data);
  if (frame.op === "heartbeat") return;
  if (frame.op === "delta" && frame.previous !== frames.at(-1)) throw new Error("a gap");
  frames.push(frame.position);
  frame.rows.forEach((row) => ids.add(row.deal_id));
  if (frame.op === "snapshot") console.log("snapshot");
  if (ids.size == wanted) { console.log(JSON.stringify([...ids].sort())); socket.close(); }
});
"""


def folder_with(package: str, config: pytest.Config) -> Path:
    """Return a folder in which a package of npm is installed, kept between runs; or skip."""
    folder = config.cache.mkdir("npm-" + package.strip("@").replace("/", "-"))
    if (folder / "node_modules" / package / "package.json").is_file():
        return folder
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    told = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", ".", package],
        cwd=folder,
        capture_output=True,
        timeout=INSTALL_S,
        check=False,
        text=True,
    )
    if told.returncode:
        pytest.skip(f"npm cannot get {package}: {told.stderr.strip()[-200:]}")
    return folder


def test_the_official_parser_accepts_the_document(pytestconfig: pytest.Config) -> None:
    folder = folder_with("@asyncapi/parser", pytestconfig)
    told = subprocess.run(
        ["node", "-e", PARSE],
        cwd=folder,
        input=asyncapi.document_json(),
        capture_output=True,
        check=True,
    )
    assert json.loads(told.stdout) == {"isDocument": True, "faults": []}


def test_the_examples_are_what_the_schemas_say() -> None:
    document = asyncapi.document()
    for message in document["components"]["messages"].values():
        assert message["examples"]
        for example in message["examples"]:
            schema = {**message["payload"], "components": document["components"]}
            jsonschema.validate(example["payload"], schema)


def test_a_program_learns_how_a_guarded_feed_is_opened() -> None:
    document = asyncapi.document()
    schemes = document["components"]["securitySchemes"]
    told = [one["$ref"].rpartition("/")[2] for one in document["servers"]["guarded"]["security"]]
    assert {schemes[name]["type"] for name in told} == {"http", "httpApiKey"}
    assert (
        schemes["subprotocol"]["name"]
        in document["channels"]["feed"]["bindings"]["ws"]["headers"]["properties"]
    )


def test_the_websocket_of_npm_follows_the_feed(shared: Served, pytestconfig: pytest.Config) -> None:
    folder = folder_with("ws", pytestconfig)
    shared.write([made.open_account("A1"), made.define("AAPL")])
    url = f"ws://127.0.0.1:{shared.port}/v1/feed"
    words = ["node", "-e", FOLLOW, url, "40"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "snapshot\n"
            shared.write([made.deal(f"n{n}", "A1", f"n{n}") for n in range(40)], at_once=3)
            told = json.loads(process.stdout.readline())
            assert told == sorted(f"n{n}" for n in range(40))
            assert process.wait(120) == 0
        finally:
            process.kill()
