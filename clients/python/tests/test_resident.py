"""Resident pages in a real child, in each style of loop."""

import threading

import pytest

from test_golden import VECTORS

PAGE, OTHER = "p|p01", "q|p01"


def open_page(child, page=PAGE, **members):
    end = child.tell("open", page, **members)
    assert end == {"t": "result", "id": end["id"], "value": None}


def test_ready_lists_the_classes_with_their_methods(resident):
    classes = {one["name"]: one["methods"] for one in resident.ready["pages"]}
    assert set(classes) == {"Counter", "Plain"}
    methods = {method["name"]: method for method in classes["Counter"]}
    names = {"about", "peek", "outside", "again", "add", "keep", "wait", "hold", "huge", "broken"}
    assert set(methods) == names
    assert (methods["peek"]["timeout_ms"], methods["peek"]["concurrent"]) == (2500, True)
    assert methods["add"]["schema"]["properties"] == {"by": {"type": "integer", "default": 1}}
    assert methods["add"]["doc"] == "Adds a number."
    assert set(methods["add"]) == {"name", "schema", "returns", "doc"}


def test_an_object_lives_from_its_opening_to_its_end(resident):
    open_page(resident, user="ada", session="s|p01", connection="c|p01")
    assert [resident.rpc("add", params)["value"] for params in (None, {"by": 5}, [2])] == [1, 6, 8]
    assert resident.tell("away")["value"] is None
    assert resident.tell("back", connection="d|p01")["value"] is None
    about = resident.rpc("about", user="ada")["value"]
    assert about["told"] == [f"made {PAGE}", "open for ada", "away", "back"]
    assert [about[name] for name in ("page", "user", "session", "connection")] == [PAGE, "ada", "s|p01", "d|p01"]
    assert (about["method"], about["work"]) == ("Counter.about", [PAGE, "ada", None])
    assert resident.tell("close")["value"] is None
    assert resident.of("log")[-1]["message"] == "closed"
    assert resident.rpc("add")["code"] == "stale"
    assert resident.call("objects")["value"] == []


def test_the_pages_of_a_child_have_an_object_each(resident):
    open_page(resident)
    open_page(resident, OTHER)
    resident.rpc("add", [5])
    assert [resident.rpc("add")["value"], resident.rpc("add", page=OTHER)["value"]] == [6, 1]
    assert resident.call("objects")["value"] == [PAGE, OTHER]


def test_an_object_is_found_by_its_page_after_the_page_has_moved_to_another_node(resident):
    open_page(resident)
    resident.rpc("add")
    assert resident.rpc("add", page="p|p07")["value"] == 2
    assert resident.rpc("about", page="p|p07")["value"]["page"] == "p|p07"


def test_a_planned_move_keeps_what_save_has_returned(resident):
    open_page(resident)
    resident.rpc("add", [7])
    saved = resident.tell("save", why="drain")["value"]
    assert saved["n"] == 7
    assert resident.rpc("add")["code"] == "stale"
    resident.tell("restore", saved=saved, why="drain")
    assert resident.rpc("add")["value"] == 8
    assert resident.rpc("about")["value"]["told"] == [f"made {PAGE}", "open for ", "restored: drain"]


@pytest.mark.parametrize("members", [{"why": "lost"}, {"why": "drain", "saved": None}])
def test_an_object_that_is_lost_or_has_saved_nothing_is_rebuilt_from_its_state_tree(resident, members):
    resident.answers["state.get"] = {"value": 41, "revision": 3}
    assert resident.tell("restore", **members)["t"] == "result"
    assert resident.rpc("add")["value"] == 42
    told = resident.rpc("about")["value"]["told"]
    assert told == [f"made {PAGE}", f"rebuilt: {members['why']}"]
    request = resident.request("state.get")
    assert request["params"] == {"level": "page", "path": "n"}


@pytest.mark.parametrize("members", [{"why": "lost"}, {"why": "drain", "saved": {"of": "an older release"}}])
def test_a_class_without_restore_is_opened_again(resident, members):
    assert resident.tell("restore", page_class="Plain", **members)["t"] == "result"
    assert resident.rpc("has_opened", page_class="Plain")["value"] is True


def test_save_without_a_method_of_that_name_returns_null_and_drops_the_object(resident):
    open_page(resident, page_class="Plain")
    assert resident.tell("save", page_class="Plain", why="idle")["value"] is None
    assert resident.rpc("has_opened", page_class="Plain")["code"] == "stale"


def test_requests_of_a_message_belong_to_it(resident):
    resident.answers |= {"state.get": {"value": {"n": 1}, "revision": 1}, "state.patch": {"revision": 2}}
    resident.answers["push.send"] = {"reached": 1, "held": 0}
    open_page(resident)
    number = resident.begin_rpc("keep")
    assert resident.end(number)["value"] == [{"n": 1}, [1, 0]]
    requests = resident.of("request")
    assert {request["work"] for request in requests} == {number}
    assert [request["params"] for request in requests if request["method"] == "push.send"] == [
        {"to": {"page": PAGE}, "payload": {"n": 0}}
    ]
    assert requests[0]["params"] == {"level": "page", "changes": [{"path": "n", "value": 0}]}


@pytest.mark.parametrize("hook", ["on_open", "restore"])
def test_an_object_whose_opening_fails_is_not_there(resident, hook):
    user = f"fails in {hook}"
    if hook == "on_open":
        end = resident.tell("open", user=user)
    else:
        end = resident.tell("restore", user=user, why="drain", saved={"n": 1, "told": []})
    assert (end["code"], end["message"]) == ("broken", hook)
    assert resident.rpc("add")["code"] == "stale"
    open_page(resident)
    assert resident.rpc("add")["value"] == 1


def test_an_opening_that_fails_drops_the_object_that_the_page_had(resident):
    open_page(resident)
    resident.tell("open", user="fails in on_open")
    assert resident.rpc("add")["code"] == "stale"


@pytest.mark.parametrize(("event", "hook"), [("save", "save"), ("close", "on_close")])
def test_an_object_is_dropped_if_its_end_fails(resident, event, hook):
    open_page(resident, user=f"fails in {hook}")
    assert (resident.tell(event, why="drain")["code"]) == "broken"
    assert resident.rpc("add")["code"] == "stale"
    assert resident.call("objects")["value"] == []


@pytest.mark.parametrize(
    ("user", "code", "message"),
    [
        ("large", "too_large", "`Counter.save` has returned 196609 bytes; at most 196608 are possible"),
        ("strange", "malformed", "a value of the type lock is not JSON"),
    ],
)
def test_what_save_returns_has_to_be_json_of_a_limited_size(resident, user, code, message):
    open_page(resident, user=user)
    end = resident.tell("save", why="drain")
    assert (end["code"], end["retryable"]) == (code, False)
    assert message in end["message"]
    assert resident.rpc("add")["code"] == "stale"


def test_a_message_for_a_missing_object_or_one_of_another_class_is_stale(resident):
    for end in (resident.rpc("add"), resident.tell("away"), resident.tell("back"), resident.tell("save")):
        assert (end["code"], end["retryable"]) == ("stale", False)
        assert end["message"] == f"the page {PAGE} has no `Counter` in this process"
    open_page(resident, page_class="Plain")
    assert resident.rpc("add")["code"] == "stale"


def test_a_class_or_method_that_the_child_does_not_have_is_named(resident):
    open_page(resident)
    end = resident.rpc("ad")
    assert (end["code"], end["retryable"]) == ("no_executor", True)
    assert end["message"] == "`Counter` has no method `ad`: did you mean `add`?"
    end = resident.rpc("add", page_class="Countr")
    assert end["message"] == "there is no class of pages `Countr`: did you mean `Counter`?"
    for hidden in ("on_open", "save", "fail_if", "keep_it", "__init__"):
        assert resident.rpc(hidden)["code"] == "no_executor"


def test_an_event_that_the_child_does_not_know_is_unsupported(resident):
    open_page(resident)
    assert [resident.tell(event)["code"] for event in ("sleep", "restore2")] == ["unsupported", "unsupported"]
    assert resident.rpc("add")["value"] == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"by": "1"}, "`by`: expected an integer, got the string '1'"),
        ({"self": 1}, "there is no parameter `self`"),
        ([1, 2], "2 parameters were given, at most 1 are expected"),
    ],
)
def test_wrong_parameters_of_a_method_are_malformed_and_named(resident, params, message):
    open_page(resident)
    end = resident.rpc("add", params)
    assert (end["code"], end["message"], end["retryable"]) == ("malformed", message, False)


def test_a_result_that_does_not_fit_and_an_exception_are_errors_of_their_call_only(resident):
    open_page(resident)
    assert resident.rpc("huge")["code"] == "too_large"
    end = resident.rpc("broken")
    assert (end["code"], end["message"], end["retryable"]) == ("failed", "ValueError: broken", True)
    assert 'raise ValueError("broken")' in end["trace"] and "pagewire/page_work.py" not in end["trace"]
    assert resident.rpc("add")["value"] == 1


@pytest.mark.parametrize("why", ["cancelled", "deadline"])
def test_a_method_that_is_cancelled_stops_and_the_object_lives_on(resident, why):
    open_page(resident)
    number = resident.begin_rpc("wait")
    resident.wait(lambda message: message["t"] == "progress" and message["id"] == number)
    resident.send({"t": "cancel", "id": number, "why": why})
    assert resident.end(number)["t"] == "stopped"
    assert resident.rpc("add")["value"] == 1


def test_messages_of_one_page_never_overlap_whatever_the_loop(resident):
    open_page(resident)
    resident.call("keep_busy", [PAGE, 30])
    numbers = [resident.begin_rpc("hold") for _ in range(8)]
    assert {resident.end(number)["value"] for number in numbers} == {1}


def test_a_concurrent_method_runs_beside_another_message(start):
    for target in ("resident:threads", "resident:mixed"):
        child = start(target)
        open_page(child)
        number = child.begin_rpc("wait")
        child.wait(lambda message: message["t"] == "progress")
        assert child.rpc("peek")["value"] == [0, "Counter.peek"]
        child.send({"t": "cancel", "id": number, "why": "cancelled"})
        assert child.end(number)["t"] == "stopped"


def test_other_pages_run_while_one_is_busy(start):
    for target in ("resident:threads", "resident:mixed"):
        child = start(target)
        open_page(child)
        open_page(child, OTHER)
        child.begin_rpc("wait")
        assert child.rpc("add", page=OTHER)["value"] == 1


def test_code_outside_of_messages_meets_the_object_by_its_page(resident):
    open_page(resident)
    assert resident.call("raise_it", [PAGE, 5])["value"] == [0]
    assert resident.call("raise_it", ["p", 1])["value"] == [5]
    assert resident.rpc("add")["value"] == 7
    missing = f"the page {OTHER} has no `Base` in this process"
    assert resident.call("raise_it", [OTHER, 1])["value"] == [missing]
    resident.tell("close")
    assert resident.call("raise_it", [PAGE, 5])["value"] == [f"the page {PAGE} has no `Base` in this process"]


def test_a_message_waits_while_other_code_has_the_object(start):
    for target in ("resident:threads", "resident:mixed"):
        child = start(target)
        open_page(child)
        child.call("grab", [PAGE])
        numbers = [child.begin_rpc("add"), child.begin_telling("save", why="drain"), child.begin_rpc("about")]
        child.call("objects")
        assert not any(message.get("id") in numbers for message in child.messages)
        child.call("release", [PAGE])
        ends = [child.end(number) for number in numbers]
        assert {end["t"] for end in ends} <= {"result", "error"}
        assert child.call("objects")["value"] == []


def test_a_message_that_waits_for_the_object_can_be_cancelled(start):
    for target in ("resident:threads", "resident:mixed"):
        child = start(target)
        open_page(child)
        child.call("grab", [PAGE])
        waiting, next_one = child.begin_rpc("about"), child.begin_rpc("add")
        child.call("objects")
        child.send({"t": "cancel", "id": waiting, "why": "deadline"})
        assert child.end(waiting)["t"] == "stopped"
        child.call("release", [PAGE])
        assert child.end(next_one)["value"] == 1


def test_a_message_in_one_thread_can_be_cancelled_while_other_code_has_the_object(start):
    """The thread of the messages waits, so another one reads the cancel."""
    child = start("resident:sync")
    open_page(child)
    child.call("grab", [PAGE])
    waiting = child.begin_rpc("add")
    child.send({"t": "cancel", "id": waiting, "why": "deadline"})
    assert child.end(waiting)["t"] == "stopped"
    child.call("release", [PAGE])
    assert child.rpc("add")["value"] == 1


def test_an_object_can_be_met_within_its_own_message(resident):
    open_page(resident)
    assert resident.rpc("again")["value"] is True


def test_code_without_a_message_has_no_context(resident):
    open_page(resident)
    errors = resident.rpc("outside")["value"]
    assert len(errors) == 1 and "runs in this thread or task" in errors[0]


def test_async_code_meets_an_object_by_async_with(start):
    child = start("resident:mixed")
    open_page(child)
    said, is_same = child.call("meet_async", [PAGE])["value"]
    assert "async with app.object" in said and is_same
    assert child.rpc("add")["value"] == 11
    assert child.call("missing_async", [OTHER])["message"] == f"the page {OTHER} has no object in this process"


def test_save_and_close_that_are_cancelled_before_they_begin_drop_the_object(start):
    child = start("resident:sync")
    for event in ("save", "close"):
        open_page(child)
        busy = child.begin_rpc("wait")
        child.wait(lambda message, busy=busy: message["t"] == "progress" and message["id"] == busy)
        ending = child.begin_telling(event, why="drain")
        for number in (ending, busy):
            child.send({"t": "cancel", "id": number, "why": "cancelled"})
            assert child.end(number)["t"] == "stopped"
        assert child.call("objects")["value"] == []


@pytest.mark.parametrize("event", ["save", "close"])
@pytest.mark.parametrize("target", ["resident:sync", "resident:threads", "resident:mixed"])
def test_save_and_close_that_are_cancelled_while_they_wait_for_the_object_drop_it(start, target, event):
    child = start(target)
    open_page(child)
    child.call("grab", [PAGE])
    ending = child.begin_telling(event, why="drain")
    if target != "resident:sync":  # whose only thread waits
        assert child.call("objects")["value"] == [PAGE]
    child.send({"t": "cancel", "id": ending, "why": "cancelled"})
    assert child.end(ending)["t"] == "stopped"
    assert child.call("objects")["value"] == []
    child.call("release", [PAGE])
    assert child.rpc("add")["code"] == "stale"


def test_the_golden_messages_of_a_page_are_understood(resident):
    resident.answers["state.get"] = {"value": 6, "revision": 3}
    names = ["page-open", "page-away", "page-back", "rpc", "page-save", "page-restore", "page-close"]
    values = []
    for name in [*names, "page-restore-lost", "rpc"]:
        message = VECTORS[name]["message"] | {"id": next(resident.ids)}
        resident.send(message)
        values.append(resident.end(message["id"])["value"])
    told = [f"made {VECTORS['rpc']['message']['page']}", "open for ada", "away", "back"]
    assert values == [None, None, None, 2, {"n": 2, "told": told}, None, None, None, 8]


def test_after_drain_no_message_of_a_page_begins_and_those_that_run_end(start):
    for target in ("resident:threads", "resident:mixed"):
        child = start(target)
        open_page(child)
        number = child.begin_rpc("wait")
        child.wait(lambda message: message["t"] == "progress")
        child.send({"t": "drain", "within_ms": 5000})
        end = child.rpc("add")
        assert (end["code"], end["retryable"]) == ("unavailable", True)
        assert child.tell("open", OTHER)["code"] == "unavailable"
        child.send({"t": "cancel", "id": number, "why": "drain"})
        assert child.end(number)["t"] == "stopped"
        assert child.exit() == 0


@pytest.mark.parametrize("missing", ["class", "page", "method"])
def test_a_message_without_what_it_names_ends_the_child(start, missing):
    child = start("resident:sync")
    message = {"t": "rpc", "id": 1, "class": "Counter", "page": PAGE, "method": "add", "params": None}
    child.send({name: value for name, value in message.items() if name != missing})
    assert child.exit() == 1
    assert "without class, page, method or event" in child.output()


def test_a_child_without_pages_does_not_know_their_messages(start):
    child = start("work:sync")
    assert "pages" not in child.ready
    assert child.rpc("add")["code"] == "no_executor"
    assert child.tell("open")["code"] == "no_executor"


def test_sync_methods_beside_async_ones_run_in_threads(start):
    child = start("resident:mixed")
    open_page(child)
    assert child.rpc("about")["value"]["thread"] != "MainThread"
    results = []
    threads = [threading.Thread(target=lambda: results.append(child.rpc("add")["value"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(1, 9))
