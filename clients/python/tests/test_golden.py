"""The golden frames of the child wire, which other implementations read as well."""

import json
import socket
from pathlib import Path

import pytest

from pagewire import App, Context, Fail, Page, Retry, outcome, rpc
from pagewire.errors import Cancelled, Snoozed
from pagewire.link import PONG, Link
from pagewire.runtime import ready
from pagewire.wire import FrameReader, frame

GOLDEN = Path(__file__).parents[3] / "tests/golden/child"
VECTORS = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(GOLDEN.glob("*.json"))}


@pytest.mark.parametrize("name", VECTORS)
def test_a_golden_frame_is_read_as_its_message(name):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(bytes.fromhex(VECTORS[name]["frame"]))
        assert FrameReader(ours).next() == VECTORS[name]["message"]


@pytest.mark.parametrize("name", VECTORS)
def test_a_golden_message_is_written_as_its_frame(name):
    assert frame(VECTORS[name]["message"]).hex() == VECTORS[name]["frame"]


def test_every_message_of_the_document_has_a_vector():
    document = (GOLDEN.parents[2] / "docs/child.md").read_text("utf-8")
    sections = [section for section in document.split("\n## ") if section.startswith(("Messages", "Requests"))]
    assert len(sections) == 3
    rows = [line.split("|")[1].strip() for line in "\n".join(sections).splitlines() if line.startswith("| `")]
    named = {row.strip("`") for row in rows} - {"t", "method"}
    messages = [vector["message"] for vector in VECTORS.values()]
    covered = {message["t"] for message in messages} | {m["method"] for m in messages if m["t"] == "request"}
    assert len(named) > 20
    assert named - covered == set()


def message_of(name):
    return VECTORS[name]["message"]


def context_of(message):
    link = Link(*socket.socketpair()[:1], None, {}, {})
    return Context(link, {"method": "m", "params": None, **message})


def test_the_ends_of_work_are_the_golden_frames():
    cancelled = context_of({"id": 2})
    cancelled._reason = "cancelled"
    frames = {
        "result": outcome.result(context_of({"id": 1}), message_of("result")["value"]),
        "result-null": outcome.result(context_of({"id": 0}), None),
        "error": outcome.failure(context_of({"id": 2}), Fail("no_stock", "sold out")),
        "snooze": outcome.failure(context_of({"id": 2}), Snoozed(60)),
        "stopped": outcome.failure(cancelled, Cancelled("cancelled")),
        "pong": PONG,
    }
    assert {name: data.hex() for name, data in frames.items()} == {name: VECTORS[name]["frame"] for name in frames}
    retry = outcome.failure(context_of({"id": 2}), Retry(after=1.5, message="ValueError: broken"))
    expected = {name: value for name, value in message_of("error-retry").items() if name != "trace"}
    assert json.loads(retry[4:]) == expected


@pytest.mark.parametrize("name", [name for name in VECTORS if name.startswith("request-")])
def test_a_request_is_the_golden_frame(name):
    message = message_of(name)
    context = context_of({"id": message.get("work")})
    data = context._link.request(context, message["id"], message["method"], message["params"])
    assert data.hex() == VECTORS[name]["frame"]


def test_ready_is_the_golden_message():
    app = App()

    @app.handler("search")
    def search(ctx):
        pass

    @app.handler(mode="assigned", serial="user", timeout=600, retries=5)
    def report(ctx, month: str):
        """Writes a report."""

    @app.handler
    def counted(ctx) -> dict[str, int]:
        return {}

    written = ready(app, "secret-of-this-child")
    golden = message_of("ready")
    assert set(written) == set(golden)
    assert set(written["methods"][1]) == set(golden["methods"][1])
    assert written["methods"][2]["returns"] == {"type": "object", "additionalProperties": {"type": "integer"}}
    for member in ("name", "mode", "serial", "timeout_ms", "retries", "doc"):
        assert written["methods"][1][member] == golden["methods"][1][member]


def test_the_classes_of_ready_are_the_golden_ones():
    app = App()

    @app.page
    class Counter(Page):
        @rpc(timeout=5)
        def add(self, by: int = 1):
            """Adds a number."""

        @rpc(concurrent=True)
        async def peek(self):
            pass

    @app.page
    class Board(Page):
        pass

    written = ready(app, "secret-of-this-child")
    golden = message_of("ready-pages")
    assert set(written) == set(golden)
    assert [one["name"] for one in written["pages"]] == ["Counter", "Board"]
    for mine, theirs in zip(written["pages"][0]["methods"], golden["pages"][0]["methods"]):
        assert {**mine, "schema": None} == {**theirs, "schema": None}
