"""The clients of the server API, against a server of the test and, if there is one, a real node."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pagewire import AsyncClient, Client, Conflict, Error
from pagewire.testing.server import Server, configuration, find_binary


class Api(ThreadingHTTPServer):
    """Answers requests from a list and keeps what it has received."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Exchange)
        self.answers = {}
        self.requests = []
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Ignores clients that have not waited for their response."""

    def get_request(self):
        self.connections += 1
        return super().get_request()


class Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        size = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(size)) if size else None
        self.server.requests.append((self.command, self.path, body, dict(self.headers)))
        answer = self.server.answers[self.command, self.path]
        if answer == "close":
            self.close_connection = True
            return
        status, value, headers = answer() if callable(answer) else answer
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-length": len(data), **headers}.items():
            self.send_header(name, str(text))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    server = Api()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_call_sends_the_key_and_returns_the_result(api):
    api.answers["POST", "/api/v1/calls"] = (200, {"x": 1}, {})
    with Client(api.url, "a-key-of-16-letters") as client:
        assert client.call("sum", [1], user="ada", page="p|p01", mode="any", pool="p", timeout=2) == {"x": 1}
    _, _, body, headers = api.requests[0]
    assert headers["Authorization"] == "Bearer a-key-of-16-letters"
    assert body == {
        "method": "sum",
        "params": [1],
        "user": "ada",
        "page": "p|p01",
        "exec_mode": "any",
        "pool": "p",
        "timeout_ms": 2000,
    }


def test_a_connection_is_used_again(api):
    api.answers["POST", "/api/v1/calls"] = (200, 1, {})
    with Client(api.url) as client:
        for _ in range(5):
            assert client.call("one") == 1
    assert api.connections == 1


def test_several_threads_use_one_client(api):
    api.answers["POST", "/api/v1/calls"] = (200, 1, {})
    with Client(api.url) as client:
        results = []
        threads = [threading.Thread(target=lambda: results.append(client.call("one"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [1] * 8


def test_an_error_has_its_code_and_status(api):
    error = {"error": {"code": "no_executor", "message": "nothing serves it", "retryable": True, "request_id": "r"}}
    api.answers["POST", "/api/v1/calls"] = (503, error, {})
    with pytest.raises(Error) as raised:
        Client(api.url).call("x")
    got = raised.value
    assert (got.code, got.message, got.retryable, got.status) == ("no_executor", "nothing serves it", True, 503)


def test_a_response_that_is_not_of_pagewire_is_an_error(api):
    api.answers["POST", "/api/v1/calls"] = (502, b"<html>", {})
    with pytest.raises(Error) as raised:
        Client(api.url).call("x")
    assert (raised.value.code, raised.value.status, raised.value.retryable) == ("internal", 502, True)


def test_a_server_that_is_not_there_is_unavailable():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Error) as raised:
        Client(f"http://127.0.0.1:{port}").call("x")
    assert (raised.value.code, raised.value.retryable) == ("unavailable", True)


def test_a_lost_connection_leaves_a_call_uncertain_and_a_read_unavailable(api):
    api.answers["POST", "/api/v1/calls"] = "close"
    api.answers["GET", "/api/v1/stats"] = "close"
    client = Client(api.url)
    with pytest.raises(Error) as raised:
        client.call("x")
    assert (raised.value.code, raised.value.retryable) == ("uncertain", False)
    with pytest.raises(Error) as raised:
        client.stats()
    assert (raised.value.code, raised.value.retryable) == ("unavailable", True)


def test_no_response_in_time_is_a_timeout(api):
    answer = threading.Event()
    api.answers["GET", "/api/v1/stats"] = lambda: (answer.wait(20), (200, {}, {}))[1]
    with pytest.raises(Error) as raised:
        Client(api.url, timeout=0.05).stats()
    answer.set()
    assert (raised.value.code, raised.value.retryable) == ("timeout", True)


def test_parameters_that_are_not_json_are_malformed(api):
    with pytest.raises(Error) as raised:
        Client(api.url).call("x", float("nan"))
    assert raised.value.code == "malformed"


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://"])
def test_an_address_without_scheme_or_host_is_refused(url):
    with pytest.raises(ValueError, match="the address of a server"):
        Client(url)


def test_pushes_return_how_many_pages_they_reached(api):
    api.answers["POST", "/api/v1/send"] = (200, {"reached": 2, "held": 1, "nodes": [], "unreachable": []}, {})
    client = Client(api.url)
    assert client.send({"topic": "room"}, {"a": 1}) == (2, 1)
    assert client.broadcast("x").reached == 2
    assert [body for _, _, body, _ in api.requests] == [
        {"to": {"topic": "room"}, "payload": {"a": 1}},
        {"to": {"all": True}, "payload": "x"},
    ]


def test_a_tree_is_read_with_its_revision(api):
    api.answers["GET", "/api/v1/users/ada/data/a.b%2Fc"] = (200, 5, {"etag": '"7"'})
    tree = Client(api.url).state.of("user", "ada")
    assert tree.get("a.b/c") == 5
    assert tree.read("a.b/c") == (5, 7)


def test_a_user_that_a_path_cannot_contain_is_encoded(api):
    api.answers["GET", "/api/v1/users/~Li4/data"] = (200, {}, {"etag": '"0"'})
    api.answers["GET", "/api/v1/pages/5b0Kq9V3nYxW2dLrT7sHcE%7Cp01/data"] = (200, {"a": 1}, {"etag": '"1"'})
    client = Client(api.url)
    assert client.state.of("user", "..").get() == {}
    assert client.state.of("page", "5b0Kq9V3nYxW2dLrT7sHcE|p01").get() == {"a": 1}
    with pytest.raises(Error, match="a level is one of"):
        client.state.of("tab", "x")


def test_a_missing_path_has_the_revision_of_its_tree(api):
    gone = {"error": {"code": "unknown", "message": "there is no value at this path", "retryable": False}}
    api.answers["GET", "/api/v1/users/ada/data/x"] = (404, gone, {})
    api.answers["GET", "/api/v1/users/ada/data"] = (200, {"y": 1}, {"etag": '"4"'})
    tree = Client(api.url).state.of("user", "ada")
    assert tree.get("x", "default") == "default"
    assert tree.read("x") == (None, 4)


def test_an_edit_is_written_at_the_revision_that_was_read(api):
    conflict = {"error": {"code": "conflict", "message": "the tree is at revision 5", "retryable": False}}
    api.answers["GET", "/api/v1/users/ada/data"] = (200, {"n": 1}, {"etag": '"4"'})
    api.answers["PATCH", "/api/v1/users/ada/data"] = (412, conflict, {})
    tree = Client(api.url).state.of("user", "ada")
    with pytest.raises(Conflict) as raised:
        with tree.edit() as draft:
            draft["n"] += 1
    assert raised.value.status == 412
    assert api.requests[-1][2] == {"changes": [{"path": "n", "value": 2}], "if_revision": 4}


def test_jobs_are_submitted_and_waited_for(api):
    states = iter(["queued", "running", "succeeded", "succeeded", "dead"])

    def job():
        state = next(states)
        error = {"error": {"code": "failed", "message": "broken", "retryable": True}} if state == "dead" else {}
        return 200, {"id": "j1", "state": state, "result": 5, **error}, {}

    api.answers["POST", "/api/v1/jobs"] = (201, {"id": "j1", "state": "queued"}, {})
    api.answers["GET", "/api/v1/jobs/j1"] = job
    api.answers["POST", "/api/v1/jobs/j1/cancel"] = (200, {"id": "j1", "state": "cancelled"}, {})
    jobs = Client(api.url).jobs
    assert jobs.submit("report", {"a": 1}, user="ada", page="p|p01", delay=60, retries=2, key="k") == "j1"
    body = api.requests[0][2]
    assert body.pop("run_at").endswith("Z")
    assert body == {
        "kind": "report",
        "data": {"a": 1},
        "user": "ada",
        "page": "p|p01",
        "retries": 2,
        "idempotency_key": "k",
    }
    assert jobs.wait("j1")["state"] == "succeeded"
    assert jobs.result("j1") == 5
    with pytest.raises(Error) as raised:
        jobs.result("j1")
    assert (raised.value.code, raised.value.message) == ("failed", "broken")
    assert jobs.cancel("j1") == "cancelled"


def test_waiting_for_a_job_has_an_end(api):
    api.answers["GET", "/api/v1/jobs/j1"] = (200, {"id": "j1", "state": "queued"}, {})
    with pytest.raises(Error) as raised:
        Client(api.url).jobs.wait("j1", timeout=0.03)
    assert (raised.value.code, raised.value.message) == ("timeout", "the job j1 is still queued")


def test_the_async_client_has_the_same_methods(api):
    api.answers["POST", "/api/v1/calls"] = (200, 1, {})
    api.answers["GET", "/api/v1/users/ada/data"] = (200, {"n": 1}, {"etag": '"4"'})
    api.answers["PATCH", "/api/v1/users/ada/data"] = (200, {"revision": 5}, {})
    api.answers["GET", "/api/v1/jobs/j1"] = (200, {"id": "j1", "state": "succeeded", "result": 7}, {})

    async def use():
        async with AsyncClient(api.url) as client:
            assert await asyncio.gather(*(client.call("one") for _ in range(20))) == [1] * 20
            tree = client.state.of("user", "ada")
            assert await tree.get() == {"n": 1}
            async with tree.edit() as draft:
                draft["n"] = 2
            assert draft.revision == 5
            assert await tree.update(lambda draft: draft.__setitem__("n", 3)) == 5
            assert await client.jobs.result("j1") == 7

    asyncio.run(use())


BINARY = find_binary()
needs_binary = pytest.mark.skipif(BINARY is None, reason="there is no program `pagewire` (PAGEWIRE_BINARY)")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A real node with the demo handlers."""
    folder = tmp_path_factory.mktemp("node")
    with Server(BINARY, "", folder, folder, config='listen = "127.0.0.1:0"\nwelcome = false\ndemo = true\n') as server:
        yield server


@needs_binary
def test_a_real_node_answers_calls_and_runs_jobs(node):
    client = node.client
    assert client.call("sum", [1, 2, 3]) == 6
    assert client.jobs.result(client.jobs.submit("sum", [1, 2], retries=1)) == 3
    later = client.jobs.submit("sum", [1], delay=600)
    assert client.jobs.get(later)["state"] == "scheduled"
    assert client.jobs.cancel(later) == "cancelled"
    with pytest.raises(Error) as raised:
        client.call("nothing")
    assert (raised.value.code, raised.value.status) == ("no_executor", 503)
    assert client.stats()["pages"] == 0
    assert client.send({"user": "ada"}, 1) == (0, 0)


@needs_binary
def test_a_real_node_keeps_trees_with_compare_and_set(node):
    tree = node.client.state.of("user", "ada/ü ..")
    assert tree.read("x") == (None, 0)
    first = tree.set("x.y", 1)
    with tree.edit() as draft:
        draft["x.y"] += 1
        draft["list"] = [1]
    assert tree.read() == ({"x": {"y": 2}, "list": [1]}, draft.revision)
    assert tree.get("x.none", "default") == "default"
    with pytest.raises(Conflict):
        tree.set("x", 1, if_revision=first)
    tree.delete("list")
    assert tree.get() == {"x": {"y": 2}}


def has_pools(folder):
    """Returns whether the program `pagewire` has pools of children."""
    file = folder / "pools.toml"
    file.write_text(configuration("script:board"))
    check = [BINARY, "config", "check", "--config", str(file)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PAGEWIRE_")}
    return subprocess.run(check, capture_output=True, timeout=60, env=variables).returncode == 0


@needs_binary
def test_a_real_node_runs_the_handlers_of_an_application(tmp_path):
    if not has_pools(tmp_path):
        pytest.skip("this program `pagewire` has no pools")
    with Server(BINARY, "script:board", tmp_path, Path(__file__).parent / "apps") as server:
        assert server.client.call("hello", {"name": "Ada"}) == "hello Ada"


def test_the_configuration_of_a_test_server_names_the_application():
    text = configuration("shop:app", slots=4)
    assert '"-m", "pagewire", "shop:app"]' in text
    assert 'name = "default"' in text
    assert "slots = 4" in text


def test_a_server_that_does_not_start_shows_its_log(tmp_path):
    program = tmp_path / "pagewire"
    program.write_text("#!/bin/sh\necho 'cannot listen'\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="cannot listen"):
        Server(str(program), "app:app", tmp_path, tmp_path)


def test_the_fixture_of_a_server_skips_without_the_program(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it(pagewire_server):\n    assert pagewire_server.url\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", str(tmp_path)]
    variables = {name: value for name, value in os.environ.items() if name != "PAGEWIRE_BINARY"}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**variables, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "1 skipped" in done.stdout
    assert "named by PAGEWIRE_BINARY" in done.stdout
