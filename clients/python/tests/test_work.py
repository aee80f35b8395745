"""Calls and jobs in a real child, in each style of loop."""

import socket
import threading
import time

import pytest

from supervisor import pack


def test_ready_lists_the_handlers_with_their_options(child):
    ready = child.ready
    assert ready["protocol"] == [1]
    assert ready["token"] == child.token
    assert ready["pid"] == child.process.pid
    assert ready["sdk"].startswith("python/")
    methods = {method["name"]: method for method in ready["methods"]}
    assert methods["move"]["schema"]["properties"]["point"]["required"] == ["x"]


def test_a_call_returns_the_result_of_its_handler(child):
    assert child.call("add", {"a": 1, "b": 2}) == {"t": "result", "id": 1, "value": 3}
    assert child.call("add", [1])["value"] == 2
    assert child.call("add", 41)["code"] == "malformed"
    assert child.call("echo", "größe 🦀")["value"] == "größe 🦀"
    assert child.call("echo")["value"] is None


def test_a_dataclass_goes_in_and_out(child):
    assert child.call("move", {"point": {"x": 1, "y": 2}})["value"] == {"x": 2, "y": 2}


def test_a_job_knows_its_attempt_and_its_page(child):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    about = child.call(
        "about",
        kind="job",
        attempt=2,
        left=3,
        user="ada",
        page="p|p01",
        session="s|p01",
        connection="c|p01",
        trace=trace,
    )["value"]
    assert about == {
        "job": "5Jb0000000000000000000",
        "attempt": 2,
        "left": 3,
        "method": "about",
        "trace": trace,
        "user": "ada",
        "page": "p|p01",
        "session": "s|p01",
        "connection": "c|p01",
        "has_page": True,
        "remaining": True,
    }


def test_work_without_a_page_has_false_handles(child):
    about = child.call("about")["value"]
    assert (about["job"], about["page"], about["has_page"], about["attempt"], about["left"]) == (
        None,
        None,
        False,
        1,
        0,
    )


def test_pipelined_calls_are_all_answered(child):
    numbers = [next(child.ids) for _ in range(2000)]
    child.send(*({"t": "call", "id": n, "method": "add", "params": [n, n], "deadline_ms": 1000} for n in numbers))
    for number in numbers:
        assert child.end(number)["value"] == 2 * number


def test_a_frame_may_arrive_byte_by_byte(child):
    child.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data = pack({"t": "call", "id": 7, "method": "echo", "params": ["ä" * 20], "deadline_ms": 1000})
    for at in range(len(data)):
        child.sock.sendall(data[at : at + 1])
    assert child.end(7)["value"] == "ä" * 20


def test_frames_of_a_mebibyte_go_both_ways(child):
    room = len(pack({"t": "result", "id": 12, "value": ""})) + 40
    text = "x" * ((1 << 20) - room - 60)
    for number in (10, 11, 12):
        child.send({"t": "call", "id": number, "method": "echo", "params": [text], "deadline_ms": 9000})
    for number in (10, 11, 12):
        assert child.end(number)["value"] == text
    assert child.call("add", [1, 1])["value"] == 2


def test_a_supervisor_that_reads_slowly_receives_every_result(child):
    child.call("add", [1, 1])
    child.reading.clear()
    text = "x" * 60_000
    numbers = [next(child.ids) for _ in range(100)]
    calls = [{"t": "call", "id": n, "method": "echo", "params": [text], "deadline_ms": 9000} for n in numbers]
    sender = threading.Thread(target=child.send, args=calls)
    sender.start()
    # until the child cannot write more than it has written
    while child.unread() < 60_000:
        time.sleep(0.001)
    child.reading.set()
    for number in numbers:
        assert child.end(number)["value"] == text
    sender.join()


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("add", {"a": "1"}, "`a`: expected an integer, got the string '1'"),
        ("add", {}, "`a` is missing: expected an integer"),
        ("add", None, "`a` is missing: expected an integer"),
        ("add", [], "`a` is missing: expected an integer"),
        ("add", {"a": 1, "c": 2}, "there is no parameter `c`"),
        ("add", [1, 2, 3], "3 parameters were given, at most 2 are expected"),
        ("move", {"point": {"x": 1, "y": True}}, "`point.y`: expected an integer, got true"),
        ("move", {"point": {"y": 1}}, "`point.x` is missing"),
        ("move", {"pont": {}}, "there is no parameter `pont`: did you mean `point`?"),
    ],
)
def test_wrong_parameters_are_malformed_and_named(child, method, params, message):
    end = child.call(method, params)
    assert (end["t"], end["code"], end["message"], end["retryable"]) == ("error", "malformed", message, False)


def test_an_unknown_method_names_the_nearest_one(child):
    end = child.call("ad", [1])
    assert (end["code"], end["retryable"]) == ("no_executor", True)
    assert "did you mean `add`?" in end["message"]


def test_an_exception_is_a_retryable_failure_with_its_traceback(child):
    end = child.call("fail", "x")
    assert (end["code"], end["message"], end["retryable"]) == ("failed", "ValueError: broken", True)
    assert 'raise ValueError("broken")' in end["trace"]
    assert "pagewire/link.py" not in end["trace"]


def test_retry_and_fail_decide_about_another_attempt(child):
    assert child.call("fail", "retry", kind="job") == {
        "t": "error",
        "id": 1,
        "code": "failed",
        "message": "later",
        "retryable": True,
        "after_ms": 1500,
    }
    assert child.call("fail", "fail", kind="job") == {
        "t": "error",
        "id": 2,
        "code": "no_stock",
        "message": "sold out",
        "retryable": False,
    }


def test_a_handler_that_exits_ends_only_its_work(child):
    assert child.call("fail", "exit")["message"] == "SystemExit: 3"
    assert child.call("add", [1, 1])["value"] == 2


def test_a_text_that_utf8_does_not_have_is_replaced_in_errors(child):
    assert child.call("fail", "surrogate")["message"] == "ValueError: a ? b"


def test_snooze_puts_a_job_off(child):
    assert child.call("fail", "snooze", kind="job") == {"t": "snooze", "id": 1, "after_ms": 2000}


@pytest.mark.parametrize(
    ("how", "members"),
    [
        ("retry after a timedelta", {"t": "error", "code": "failed", "retryable": True, "after_ms": 90_000}),
        ("snooze for a timedelta", {"t": "snooze", "after_ms": 60_000}),
        ("fail with an exception", {"code": "no_stock", "message": "'sold out'", "retryable": False}),
        (
            "snooze for nan",
            {"message": "ValueError: a delay is a finite number of seconds or a timedelta, not nan", "retryable": True},
        ),
        (
            "retry after a text",
            {"message": "ValueError: a delay is a finite number of seconds or a timedelta, not '30'"},
        ),
    ],
)
def test_an_exception_with_a_member_of_another_type_is_an_end(child, how, members):
    end = child.call("odd", how, kind="job")
    assert {name: end.get(name) for name in members} == members


def test_an_exception_that_cannot_be_sent_ends_its_work_with_the_reason(child):
    end = child.call("odd", "a broken member", kind="job")
    assert (end["t"], end["code"], end["retryable"]) == ("error", "failed", True)
    assert end["message"].startswith("Retry, which cannot be sent: TypeError: ")
    assert child.call("add", [1, 1])["value"] == 2


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("nan", "failed", "result.rows[1]: Out of range float values"),
        ("object", "failed", "result.rows[0].lock: a value of the type lock is not JSON"),
        ("surrogate", "failed", "is not JSON"),
        ("circle", "failed", "Circular reference"),
        ("deep", "failed", "it has more than 64 levels"),
        ("coroutine", "failed", "result.time: a value of the type module is not JSON"),
        ("large", "too_large", "at most 1048576 are possible"),
    ],
)
def test_a_result_that_cannot_be_sent_is_an_error_of_its_work_only(child, kind, code, message):
    end = child.call("strange", kind)
    assert (end["code"], end["retryable"]) == (code, False)
    assert message in end["message"]
    assert child.call("add", [1, 1])["value"] == 2


def test_progress_and_track_report_from_0_to_1(child):
    assert child.call("tracked", 100, kind="job")["value"] == 4950
    progress = child.of("progress")
    assert [one["progress"] for one in progress][-2:] == [1.0, 0.5]
    assert progress[-1]["message"] == "half"
    assert len(progress) < 50


def test_lines_of_the_log_name_their_work(child):
    assert child.call("log")["value"] is None
    lines = child.of("log")
    assert [(line["level"], line["message"], line["work"]) for line in lines] == [
        ("debug", "one", 1),
        ("warn", "two", 1),
        ("error", "three", 1),
    ]
    assert lines[1]["fields"]["amount"] == 3
    assert "lock" in lines[1]["fields"]["lock"]
    assert type(lines[1]["fields"]["huge"]) is str


def test_what_a_handler_prints_appears_at_once(child):
    child.call("log")
    assert child.process.stdout.readline() == "printed\n"


def test_programs_that_a_handler_starts_do_not_see_the_token(child):
    assert child.call("environment")["value"] == "[]"


def test_sync_handlers_run_beside_each_other_in_threads(parallel):
    slow = [parallel.begin("wait") for _ in range(7)]
    assert parallel.call("add", [1, 1])["value"] == 2
    for number in slow:
        parallel.send({"t": "cancel", "id": number, "why": "cancelled"})
        assert parallel.end(number)["t"] == "stopped"


def test_threads_are_used_again(parallel):
    names = {parallel.call("thread_name")["value"] for _ in range(50)}
    assert len(names) <= 8


def test_sync_and_async_handlers_run_side_by_side(start):
    child = start("work:mixed")
    waiting = [child.begin("wait"), child.begin("sync_wait")]
    assert child.call("add", [1, 1])["value"] == 2
    assert child.call("sync_add", [1, 1])["value"] == 2
    for number in waiting:
        child.send({"t": "cancel", "id": number, "why": "cancelled"})
        assert child.end(number)["t"] == "stopped"


def test_a_child_with_one_thread_asks_for_one_piece_of_work_at_a_time(start):
    child = start("work:one")
    assert child.ready["slots"] == 1
    assert child.call("thread_name")["value"] == "MainThread"


def test_a_message_of_an_unknown_type_is_ignored_or_unsupported(child):
    child.send({"t": "tomorrow", "x": 1}, {"t": "someday", "id": 99, "event": "open"})
    end = child.end(99)
    assert (end["t"], end["code"]) == ("error", "unsupported")
    assert child.call("add", [1, 1])["value"] == 2


def test_pings_are_answered_between_works(child):
    child.send({"t": "ping"})
    child.wait(lambda message: message["t"] == "pong")


def test_pings_are_answered_while_a_handler_waits_for_a_request(child):
    number = child.begin("call")
    request = child.request("call")
    child.send({"t": "ping"})
    child.wait(lambda message: message["t"] == "pong")
    child.send({"t": "reply", "id": request["id"], "value": "v"})
    assert child.end(number)["value"] == "v"


def test_each_work_has_exactly_one_end(child):
    for how in ("x", "retry", "fail", "snooze"):
        child.call("fail", how)
    child.call("strange", "nan")
    child.call("add", [1, 1])
    ends = [m["id"] for m in child.messages if m["t"] in ("result", "error", "stopped", "snooze")]
    assert sorted(ends) == sorted(set(ends)) == [1, 2, 3, 4, 5, 6]
