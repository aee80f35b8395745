"""A program beside a web application: its requests over the server API, and real nodes."""

import logging
import multiprocessing
import threading
import time

import pytest

import pagewire
from pagewire.testing.server import Server, find_binary
from test_client import Api

BINARY = find_binary()
needs_binary = pytest.mark.skipif(BINARY is None, reason="no program `pagewire`: set PAGEWIRE_BINARY")


@pytest.fixture
def api():
    server = Api()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    with Server(BINARY, "", folder, folder, 'listen = "127.0.0.1:0"\nwelcome = false\n') as server:
        yield server


def answering(api, method, value):
    api.answers["POST", f"/api/v1/requests/{method}"] = (200, {"value": value}, {})


def test_a_request_of_a_program_has_the_key_and_the_parameters_of_the_child_wire(api, monkeypatch):
    answering(api, "push.send", {"reached": 1, "held": 2})
    monkeypatch.setenv("PAGEWIRE_URL", api.url)
    monkeypatch.setenv("PAGEWIRE_API_KEY", "a-key-of-16-letters")
    assert pagewire.current().send({"user": "ada"}, [1]) == (1, 2)
    assert pagewire.current() is pagewire.current()
    verb, path, body, headers = api.requests[0]
    assert (verb, path) == ("POST", "/api/v1/requests/push.send")
    assert body == {"to": {"user": "ada"}, "payload": [1]}
    assert headers["Authorization"] == "Bearer a-key-of-16-letters"


def test_an_error_has_the_code_and_says_whether_it_is_retryable(api):
    refusal = {"error": {"code": "locked", "message": "another one has it", "retryable": True}}
    api.answers["POST", "/api/v1/requests/lock.acquire"] = (423, refusal, {})
    with pytest.raises(pagewire.Error, match="another one has it") as caught:
        pagewire.connect(api.url).lock("stock").__enter__()
    assert (caught.value.code, caught.value.retryable, caught.value.status) == ("locked", True, 423)


def test_an_answer_of_another_server_is_an_error(api):
    api.answers["POST", "/api/v1/requests/page.get"] = (200, b"<html>", {})
    with pytest.raises(pagewire.Error, match="PAGEWIRE_URL") as caught:
        pagewire.connect(api.url).find_page("p1")
    assert caught.value.code == "internal"


def test_a_change_whose_answer_is_lost_is_uncertain_and_not_made_again(api):
    client = pagewire.connect(api.url)
    api.answers["POST", "/api/v1/requests/register.write"] = "close"
    with pytest.raises(pagewire.Error) as caught:
        client.register().create("user", "ada")
    assert (caught.value.code, caught.value.retryable, len(api.requests)) == ("uncertain", False, 1)


def test_a_change_without_an_answer_in_time_is_uncertain(api):
    ended = threading.Event()
    api.answers["POST", "/api/v1/requests/state.patch"] = lambda: ended.wait(20) and (200, {"value": {}}, {})
    with pytest.raises(pagewire.Error, match="may have been executed") as caught:
        pagewire.connect(api.url, timeout=0.2).state.of("user", "ada").set("a", 1)
    ended.set()
    assert (caught.value.code, len(api.requests)) == ("uncertain", 1)


def test_a_read_is_made_again_on_another_connection(api):
    answers = [(200, {"value": {"pages": []}}, {}), "close", (200, {"value": {"pages": []}}, {})]
    left = iter(answers)

    class InTurn(dict):
        def __getitem__(self, _):
            return next(left)

    api.answers = InTurn()
    client = pagewire.connect(api.url)
    assert client.pages(user="ada") == []
    assert client.pages(user="ada") == []
    assert len(api.requests) == 3


def test_a_program_waits_for_a_server_that_starts_and_says_that_nothing_was_sent():
    ended = Api()
    ended.server_close()
    with pytest.raises(pagewire.Error, match="no connection") as caught:
        pagewire.connect(ended.url, patience=0.2).pages(user="ada")
    assert (caught.value.code, caught.value.retryable) == ("unavailable", True)
    seen = []
    waiting = threading.Thread(target=lambda: seen.append(pagewire.connect(ended.url).pages(user="ada")))
    waiting.start()
    server = Api(ended.server_port)
    answering(server, "page.list", {"pages": []})
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    waiting.join(20)
    server.shutdown()
    server.server_close()
    assert seen == [[]]


def test_lines_of_the_log_go_to_the_logger_of_the_program(api, caplog):
    with caplog.at_level(logging.INFO, "pagewire"):
        pagewire.connect(api.url).log.info("restocked", products=3)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [("INFO", "restocked products=3")]


def visit(client, count):
    for _ in range(count):
        with client.store("user", "ada") as store:
            store["visits"] = store.get("visits", 0) + 1


@needs_binary
def test_threads_and_forked_processes_of_a_program_count_in_one_store(node):
    client = pagewire.connect(node.url)
    visit(client, 1)
    threads = [threading.Thread(target=visit, args=(client, 5)) for _ in range(3)]
    # the open connections of this process are not theirs
    forked = [multiprocessing.get_context("fork").Process(target=visit, args=(client, 5)) for _ in range(3)]
    for one in forked + threads:
        one.start()
    for one in forked + threads:
        one.join(60)
    assert [one.exitcode for one in forked] == [0, 0, 0]
    assert client.store("user", "ada")["visits"] == 31


@needs_binary
def test_a_program_has_trees_locks_jobs_and_registers(node):
    client = pagewire.connect(node.url)
    tree = client.state.of("user", "bob")
    with tree.edit() as draft:
        draft["a"] = 1
    assert tree.get("a") == 1
    with pytest.raises(pagewire.Conflict):
        tree.set("a", 2, if_revision=99)
    with client.lock("stock", ttl=1) as lock:
        first = lock.token
        with pytest.raises(pagewire.Error) as caught:
            client.lock("stock").__enter__()
        assert caught.value.code == "locked"
        until = lock._until
        while lock._until == until:  # it is renewed in time
            time.sleep(0.05)
        assert lock.held
    with client.lock("stock") as lock:
        assert lock.token > first
    job = client.jobs.submit("nobody", {"a": 1}, delay=3600)
    assert client.jobs.get(job)["state"] == "pending" or client.jobs.get(job)["kind"] == "nobody"
    assert client.jobs.cancel(job) == "cancelled"
    register = client.register("shop")
    register.create("page", "p1", fields={"user": "ada"}, data={"env": [1, "ü"]})
    register.subscribe("p1", tables=["orders"])
    assert register.publish({"table": "orders"}, {"pkey": 1}) == 1
    assert [entry.changes for entry in register.take("p1").entries] == [[{"pkey": 1}]]
    assert client.find_page("0" * 22) is None
