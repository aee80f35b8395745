"""Cancelling, draining, signals and the end of the socket, in each style of loop."""

import os
import signal
import socket

import pytest

from pagewire import Context
from pagewire.link import Link
from supervisor import pack, read_frame


@pytest.mark.parametrize("why", ["cancelled", "deadline", "drain"])
def test_running_work_stops_when_it_is_cancelled(child, why):
    number = child.running("wait")
    child.send({"t": "cancel", "id": number, "why": why})
    assert child.end(number) == {"t": "stopped", "id": number}
    assert child.call("add", [1, 1])["value"] == 2


def test_a_cancel_is_not_caught_with_exception(child):
    number = child.begin("swallow", kind="job")
    child.send({"t": "cancel", "id": number, "why": "cancelled"})
    assert child.end(number)["t"] == "stopped"


def test_a_handler_that_ignores_the_cancel_may_still_succeed(child):
    number = child.running("stubborn")
    child.send({"t": "cancel", "id": number, "why": "deadline"})
    assert child.end(number)["value"] == "deadline"


def test_a_cancel_wakes_a_handler_that_waits_for_a_request(child):
    number = child.begin("call")
    request = child.request("call")
    child.send({"t": "cancel", "id": number, "why": "cancelled"})
    assert child.end(number)["t"] == "stopped"
    child.send({"t": "reply", "id": request["id"], "value": "late"})
    assert child.call("add", [1, 1])["value"] == 2


def test_work_that_waits_in_the_child_is_cancelled_at_once(start):
    child = start("work:sync")
    first, second = child.begin("call"), child.begin("add", [1, 1])
    request = child.request("call")
    child.send({"t": "cancel", "id": second, "why": "cancelled"})
    assert child.end(second)["t"] == "stopped"
    child.send({"t": "reply", "id": request["id"], "value": 1})
    assert child.end(first)["value"] == 1
    assert [m["t"] for m in child.messages if m.get("id") == second and m["t"] != "request"] == ["stopped"]


def test_a_cancel_of_unknown_work_is_ignored(child):
    child.send({"t": "cancel", "id": 999, "why": "cancelled"})
    assert child.call("add", [1, 1])["value"] == 2


def test_a_cancel_at_any_moment_gives_one_end(child):
    numbers = [next(child.ids) for _ in range(300)]
    for number in numbers:
        call = {"t": "call", "id": number, "method": "echo", "params": [number], "deadline_ms": 1000}
        child.send(call, {"t": "cancel", "id": number, "why": "cancelled"})
    for number in numbers:
        assert child.end(number)["t"] in ("result", "stopped")
    assert child.call("echo", 1)["value"] == 1
    ends = [message["id"] for message in child.messages if message["t"] in ("result", "stopped", "error")]
    assert len(ends) == len(set(ends)) == 301


def test_an_idle_child_exits_when_it_is_drained(child):
    child.call("add", [1, 1])
    child.send({"t": "drain", "within_ms": 1000})
    assert child.exit() == 0


def test_a_busy_child_ends_its_work_before_it_exits(child):
    number = child.begin("call")
    request = child.request("call")
    child.send({"t": "drain", "within_ms": 1000}, {"t": "reply", "id": request["id"], "value": 5})
    assert child.end(number)["value"] == 5
    assert child.exit() == 0


class DrainedLink(Link):
    """A link that is drained at the moment at which it sends an end, as another thread may do it."""

    def send(self, data):
        self.take({"t": "drain"})
        self.is_open = is_open(self._sock)
        self._sock.sendall(data)


def is_open(sock):
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True


def test_a_drain_while_an_end_is_sent_waits_for_it():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = DrainedLink(ours, None, {}, {})
        context = Context(link, {"id": 1, "method": "m"})
        link._works[1] = context
        link.end(context, pack({"t": "stopped", "id": 1}))
        assert link.is_open
        assert read_frame(theirs) == {"t": "stopped", "id": 1}
        assert not is_open(ours)


def test_work_that_waits_is_done_before_the_end_of_a_drain(start):
    child = start("work:sync")
    first, second = child.begin("call"), child.begin("add", [1, 1])
    request = child.request("call")
    child.send({"t": "drain", "within_ms": 1000}, {"t": "reply", "id": request["id"], "value": 5})
    assert child.end(first)["value"] == 5
    assert child.end(second)["value"] == 2
    assert child.exit() == 0


def test_an_idle_child_exits_on_sigterm(child):
    child.call("add", [1, 1])
    os.kill(child.process.pid, signal.SIGTERM)
    assert child.exit() == 0


def test_a_busy_child_finishes_its_work_after_sigterm(child):
    number = child.begin("call")
    request = child.request("call")
    os.kill(child.process.pid, signal.SIGTERM)
    child.send({"t": "reply", "id": request["id"], "value": 5})
    assert child.end(number)["value"] == 5
    assert child.exit() == 0


def test_work_that_arrives_after_sigterm_is_given_back(child):
    number = child.begin("call")
    request = child.request("call")
    os.kill(child.process.pid, signal.SIGTERM)
    # answered by a child whose handler of signals has run
    child.send({"t": "ping"})
    child.wait(lambda message: message["t"] == "pong")
    late = [child.begin("add", [1, 1], kind="job"), child.begin("add", [1, 1])]
    child.send({"t": "reply", "id": request["id"], "value": 5})
    assert child.end(number)["value"] == 5
    assert child.end(late[0]) == {"t": "snooze", "id": late[0], "after_ms": 0}
    assert child.end(late[1])["code"] == "unavailable"
    assert child.exit() == 0


def test_a_child_without_its_supervisor_exits_at_once(child):
    child.call("add", [1, 1])
    child.sock.shutdown(2)
    assert child.exit() == 1


def test_a_child_that_waits_for_a_request_exits_with_its_supervisor(child):
    child.begin("call")
    child.request("call")
    child.sock.shutdown(2)
    assert child.exit() == 1


def test_a_child_with_a_handler_that_never_returns_exits_with_its_supervisor(child):
    child.running("hang")
    child.sock.shutdown(2)
    assert child.exit() == 1


def test_a_child_with_a_handler_that_never_returns_answers_pings(child):
    child.running("hang")
    child.send({"t": "ping"})
    child.wait(lambda message: message["t"] == "pong")


def test_work_behind_a_handler_that_never_returns_is_cancelled(start):
    child = start("work:sync")
    child.running("hang")
    waiting = child.begin("add", [1, 1])
    child.send({"t": "cancel", "id": waiting, "why": "deadline"})
    assert child.end(waiting)["t"] == "stopped"


def test_a_process_that_a_handler_forks_does_not_keep_the_socket(child):
    forked = child.call("fork")["value"]
    try:
        child.process.kill()
        child.reader.join(20)
        assert child.closed
    finally:
        os.kill(forked, signal.SIGKILL)


def test_the_output_of_a_child_is_read_while_a_process_that_it_has_forked_lives_on(start):
    child = start("work:sync")
    forked = child.call("fork")["value"]
    try:
        child.sock.sendall(pack({"t": 5}))
        assert child.exit() == 1
        assert "the supervisor has sent" in child.output()
    finally:
        os.kill(forked, signal.SIGKILL)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        (1 << 20 | 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x03abc",
        pack([1]),
        pack({"id": 1}),
        pack({"t": 5}),
        pack({"t": "call"}),
        b"\x00\x00\x00\x02\xff\xfe",
    ],
)
def test_a_frame_that_breaks_the_rules_ends_the_child(child, data):
    child.sock.sendall(data)
    assert child.exit() == 1
    assert "the supervisor has sent" in child.output()
