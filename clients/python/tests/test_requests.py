"""What a handler asks of the supervisor, in each style of loop."""

import pytest


def refused(code, retryable=False):
    return {"code": code, "message": f"refused: {code}", "retryable": retryable}


def test_a_request_names_its_work_and_brings_the_value_back(child):
    child.answers["call"] = {"x": [1]}
    assert child.call("call")["value"] == {"x": [1]}
    request = child.request("call")
    assert request["work"] == 1
    assert request["params"] == {
        "method": "other",
        "params": [1],
        "user": None,
        "timeout_ms": 2000,
        "exec_mode": "any",
        "pool": "p",
    }


def test_a_refused_request_raises_and_its_error_is_that_of_the_work(child):
    child.answers["call"] = refused("worker_lost", True)
    end = child.call("call")
    assert (end["code"], end["message"], end["retryable"]) == ("worker_lost", "refused: worker_lost", True)
    assert child.of("log")[0]["message"] == "done"


def test_pushes_have_targets_and_return_how_many_they_reached(child):
    child.answers["push.send"] = {"reached": 2, "held": 1}
    end = child.call("push", page="p|p01", user="ada")
    assert end["value"] == [[2, 1]] * 4
    assert [request["params"]["to"] for request in child.of("request")] == [
        {"page": "p|p01"},
        {"user": "ada"},
        {"topic": "room"},
        {"all": True},
    ]


def test_a_push_to_a_page_that_the_work_does_not_have_reaches_no_page(child):
    child.answers["push.send"] = {"reached": 2, "held": 1}
    assert child.call("push")["value"] == [[0, 0], [0, 0], [2, 1], [2, 1]]


def test_an_edit_writes_all_changes_at_the_revision_that_it_read(child):
    child.answers["state.get"] = {"value": {"list": [1], "count": 5, "old": 0}, "revision": 7}
    child.answers["state.patch"] = {"revision": 9}
    assert child.call("edit", user="ada")["value"] == 9
    assert child.request("state.patch")["params"] == {
        "level": "user",
        "if_revision": 7,
        "changes": [
            {"path": "last.query", "value": "q"},
            {"path": "list", "value": [1, 5]},
            {"path": "old", "delete": True},
        ],
    }


def test_a_conflict_of_an_edit_runs_the_job_again(child):
    child.answers["state.get"] = {"value": {"list": [], "old": 0}, "revision": 7}
    child.answers["state.patch"] = refused("conflict")
    end = child.call("edit", user="ada", kind="job")
    assert (end["code"], end["retryable"]) == ("conflict", True)


def test_an_update_reads_and_writes_again_after_a_conflict(child):
    reads = []
    writes = []

    def read(params):
        reads.append(params)
        return {"value": {"count": len(reads)}, "revision": len(reads)}

    def write(params):
        writes.append(params)
        return refused("conflict") if len(writes) < 3 else {"revision": 10}

    child.answers.update({"state.get": read, "state.patch": write})
    assert child.call("count")["value"] == 10
    assert [write["if_revision"] for write in writes] == [1, 2, 3]
    assert writes[-1]["changes"] == [{"path": "count", "value": 4}]
    assert reads[0] == {"level": "user", "id": "bob"}


def test_trees_are_read_and_written(child):
    child.answers["state.get"] = lambda params: {"revision": 3, **({"value": 5} if params["path"] == "a" else {})}
    child.answers["state.patch"] = {"revision": 4}
    assert child.call("trees", session="s|p01")["value"] == [5, 7, [5, 3], 4, 4]
    assert [one["params"] for one in child.of("request") if one["method"] == "state.patch"] == [
        {"level": "session", "changes": [{"path": "a", "value": 1}], "if_revision": 3},
        {"level": "session", "changes": [{"path": "a", "delete": True}]},
    ]


def test_jobs_are_submitted_read_and_cancelled(child):
    child.answers["job.submit"] = {"job": "j1"}
    child.answers["job.get"] = lambda params: {"id": params["job"], "kind": "report", "state": "queued", "attempts": 0}
    child.answers["job.cancel"] = {"state": "cancelled"}
    value = child.call("jobs")["value"]
    assert value == ["j1", "j1", {"id": "j1", "kind": "report", "state": "queued", "attempts": 0}, "cancelled"]
    assert [one["params"] for one in child.of("request")][:2] == [
        {
            "kind": "report",
            "data": {"a": 1},
            "user": None,
            "run_in_ms": 2000,
            "exec_mode": "any",
            "pool": "p",
            "retries": 3,
            "idempotency_key": "k",
        },
        {"kind": "report"},
    ]


def test_a_lock_is_acquired_and_released_with_its_token(child):
    child.answers.update({"lock.acquire": {"token": 12, "ttl_ms": 150}, "lock.release": {}})
    assert child.call("lock")["value"] == [12, True]
    assert child.request("lock.acquire")["params"] == {"name": "stock", "ttl_ms": 150, "wait_ms": 1000}
    assert child.request("lock.release")["params"] == {"name": "stock", "token": 12}


def test_a_lock_is_renewed_while_its_handler_runs(child):
    child.answers.update(
        {"lock.acquire": {"token": 12, "ttl_ms": 150}, "lock.release": {}, "lock.renew": {"ttl_ms": 150}}
    )
    number = child.begin("lock", 60)
    child.wait(lambda _: len([one for one in child.messages if one.get("method") == "lock.renew"]) >= 3)
    child.send({"t": "cancel", "id": number, "why": "cancelled"})
    assert child.end(number)["t"] == "stopped"
    assert child.request("lock.release")["params"] == {"name": "stock", "token": 12}


def test_a_lost_lock_is_not_held_any_more(child):
    child.answers.update({"lock.acquire": {"token": 12, "ttl_ms": 150}, "lock.renew": refused("stale")})
    assert child.call("lock", 60)["value"] == [12, False]


def test_a_lock_that_is_not_renewed_in_time_is_not_held_any_more(child):
    child.answers.update({"lock.acquire": {"token": 12, "ttl_ms": 150}, "lock.release": {}})
    assert child.call("lock", 60)["value"] == [12, False]


def test_a_lock_of_another_holder_is_an_error(child):
    child.answers["lock.acquire"] = refused("locked", True)
    end = child.call("lock")
    assert (end["code"], end["retryable"]) == ("locked", True)


def test_several_threads_or_tasks_of_a_handler_send_requests_at_once(child):
    child.answers["call"] = lambda params: params["params"] * 2
    assert child.call("many", 40)["value"] == [2 * number for number in range(40)]


def test_async_handlers_keep_to_the_number_of_open_requests(start):
    child = start("work:mixed")
    number = child.begin("many", 600)
    child.wait(lambda _: len(child.messages) >= 240)
    requests = [one for one in child.messages if one["t"] == "request"]
    assert len(requests) <= 256
    answered = set()
    while len(answered) < 600:
        open_one = child.wait(lambda m: m["t"] == "request" and m["id"] not in answered)
        child.send({"t": "reply", "id": open_one["id"], "value": 1})
        answered.add(open_one["id"])
    assert child.end(number)["value"] == [1] * 600


def test_a_request_that_is_too_large_is_refused_in_the_child(child):
    end = child.call("big_request", page="p|p01")
    assert end["code"] == "too_large"
    assert not child.of("request")
    assert child.call("add", [1, 1])["value"] == 2


@pytest.mark.parametrize("value", [None, 0, "", [], {}])
def test_an_empty_value_of_a_reply_is_a_value(child, value):
    child.answers["call"] = lambda params: value
    assert child.call("call")["value"] == value
