"""Pagewire inside a web application: requests in the name of the application, over the wire of a real process."""

import threading

import pytest

import pagewire
from supervisor import NO_ANSWER

PAGE = {"page": "p1|p01", "session": "s1|p01", "connection": "c1|p01", "user": "ada", "opened_ms": 2500}
OF_ADA = {"X_Pagewire_User": "ada", "X_Pagewire_Page": "p1", "X_Pagewire_Connection": "b1"}


@pytest.fixture
def site(wsgi):
    """An application in a process whose requests are answered with their parameters."""
    begun = wsgi("site_web")
    begun.child.answers = {"call": lambda params: params, "page.get": PAGE, "state.get": {"revision": 1}}
    return begun


def asked(site, method):
    """Returns the requests of a method that the process has made, without their type and id."""
    found = [dict(message) for message in site.child.messages if message.get("method") == method]
    return [{name: value for name, value in one.items() if name not in ("t", "id", "method")} for one in found]


def test_a_request_of_http_makes_requests_without_work(site):
    assert site.shown("/anything") == {"method": "echo", "params": "/anything"}
    assert asked(site, "call") == [{"params": {"method": "echo", "params": "/anything"}}]


def test_requests_of_many_threads_get_their_own_replies(wsgi):
    site = wsgi("site_web", "--threads", "8")
    waiting = []

    def answer(params):
        waiting.append(params)
        return NO_ANSWER

    site.child.answers = {"call": answer}
    seen = {}
    get = lambda number: seen.update({number: site.shown(f"/{number}")["params"]})  # noqa: E731
    threads = [threading.Thread(target=get, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    site.child.wait(lambda _: len(asked(site, "call")) == 8)
    for request in reversed([one for one in site.child.messages if one["t"] == "request"]):
        site.child.send({"t": "reply", "id": request["id"], "value": request["params"]})
    for one in threads:
        one.join()
    assert seen == {number: f"/{number}" for number in range(8)}


def test_a_request_belongs_to_the_user_and_the_page_that_pagewire_names(site):
    expected = ["ada", "p1|p01", "s1|p01", "c1|p01", "stable"]
    assert site.shown("/who", **OF_ADA) == expected
    assert asked(site, "page.get") == [{"params": {"page": "p1"}}]
    assert site.shown("/who") == [None, None, None, None, "stable"]
    assert site.shown("/who", X_Pagewire_User="a%40%C3%A4", X_Pagewire_Connection="b1")[:4] == ["a@ä", None, None, "b1"]


def test_the_headers_of_pagewire_are_not_in_the_environment(wsgi):
    seen = wsgi("site_wsgi").shown("/environ", **OF_ADA)
    # granian adds the variables of its process, which the tests may have
    assert [name for name in seen if name.startswith("HTTP_X_PAGEWIRE")] == []


@pytest.mark.parametrize(
    ("found", "headers", "is_own"),
    [
        (PAGE, OF_ADA, True),
        (PAGE, {**OF_ADA, "X_Pagewire_User": "bob"}, False),
        (PAGE, {"X_Pagewire_Page": "p1"}, False),
        ({**PAGE, "proven": True}, {"X_Pagewire_Page": "p1", "Pagewire_Page_Token": "t"}, False),
        ({**PAGE, "user": None}, OF_ADA, False),
        ({**PAGE, "user": None, "proven": True}, {"X_Pagewire_Page": "p1", "Pagewire_Page_Token": "t"}, True),
        ({**PAGE, "user": None, "proven": False}, {"X_Pagewire_Page": "p1", "Pagewire_Page_Token": "t"}, False),
        ({"code": "unknown", "message": "no page", "retryable": False}, OF_ADA, False),
    ],
)
def test_a_page_is_that_of_the_request_if_its_user_or_its_token_proves_it(site, found, headers, is_own):
    site.child.answers["page.get"] = found
    assert site.shown("/page", **headers) == (["p1|p01", True, "p1|p01"] if is_own else [None, False, None])
    token = {"token": "t"} if "Pagewire_Page_Token" in headers else {}
    assert asked(site, "page.get") == [{"params": {"page": "p1", **token}}]


def test_a_tree_of_the_request_is_named_by_its_id(site):
    site.child.answers["state.patch"] = {"revision": 2}
    site.shown("/state", **OF_ADA)
    assert asked(site, "state.patch")[0]["params"]["id"] == "ada"
    named = [one["params"] for one in asked(site, "state.get")]
    assert [(one["level"], one["id"]) for one in named] == [("user", "bob"), ("page", "p1|p01")]
    error = site.shown("/state")
    assert (error["code"], error["message"]) == ("malformed", "this request of HTTP belongs to no user")


def test_work_that_a_request_asks_for_runs_for_its_user(site):
    site.child.answers["job.submit"] = {"job": "j1"}
    site.shown("/work", **OF_ADA)
    users = [one["params"].get("user", "absent") for one in asked(site, "call")]
    assert users == ["ada", None, "absent"]
    assert asked(site, "job.submit")[0]["params"]["user"] == "bob"


def test_a_line_of_the_log_names_no_work(site):
    site.shown("/log")
    line = site.child.wait(lambda message: message["t"] == "log" and message["message"] == "said")
    assert (line["fields"], "work" in line) == ({"n": 1}, False)


def test_pages_are_found_listed_and_closed(site):
    site.child.answers.update({"page.list": {"pages": [PAGE]}, "page.close": {"closed": 3}})
    page = ["p1|p01", "s1|p01", "c1|p01", "ada", 2.5]
    assert site.shown("/pages") == [page, [page], 3]
    assert asked(site, "page.list") == [{"params": {"user": "ada", "limit": 5}}]
    assert asked(site, "page.close") == [{"params": {"connection": "c"}}]


def test_a_login_sets_the_cookie_and_is_the_user_of_the_request(site):
    site.child.answers["login.begin"] = {"cookie": "token", "token": "a.b.c", "valid_s": 60}
    attributes = "Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
    assert site.cookies("/login") == [f"token=a.b.c; {attributes}"]
    assert site.cookies("/login", X_Forwarded_Proto="https") == [f"token=a.b.c; {attributes}; Secure"]
    assert site.shown("/login") == "ada@ä"
    assert asked(site, "login.begin")[0] == {"params": {"user": "ada@ä", "valid_s": 60}}


def test_a_logout_deletes_the_cookie_and_names_the_pages_that_end(site):
    site.child.answers["login.end"] = {"cookie": "token", "closed": 2}
    assert site.cookies("/logout", **OF_ADA) == ["token=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"]
    assert site.shown("/logout", X_Pagewire_User="ada") == [2, None, None]
    site.shown("/logout")
    named = [one["params"] for one in asked(site, "login.end")]
    assert named == [{"user": "ada", "connection": "c1|p01"}, {"user": "ada", "connection": None}, {}]


def test_all_logins_of_a_user_end_and_the_cookie_of_the_request_stays(site):
    site.child.answers["login.end"] = {"cookie": None, "closed": 4}
    assert site.shown("/changed") == 4 and site.cookies("/changed") is None
    assert asked(site, "login.end")[0] == {"params": {"user": "ada", "everywhere": True}}


def test_a_login_that_the_server_refuses_sets_no_cookie(site):
    site.child.answers["login.begin"] = {"code": "unsupported", "message": "set auth.cookie", "retryable": False}
    assert site.shown("/login") == {"code": "unsupported", "message": "set auth.cookie"}
    assert site.cookies("/login") is None


def test_a_forked_process_gets_an_error_and_leaves_the_wire_alone(site):
    assert site.shown("/fork") == "unsupported"
    assert site.shown("/after")["params"] == "/after"


def test_no_request_is_made_while_the_application_is_imported(site):
    assert site.shown("/import") == "unavailable"


def test_a_process_with_one_thread_for_handlers_makes_requests_of_both(wsgi):
    site = wsgi("site_web", "--threads", "1", "--app", "site_web:app")
    site.child.answers = {"call": lambda params: params}
    assert site.shown("/view")["params"] == "/view"
    assert site.child.call("inner")["value"]["params"] == "of the handler"


def test_an_async_handler_does_not_wait_for_itself(wsgi):
    site = wsgi("site_web", "--app", "site_web:both")
    site.child.answers = {"call": lambda params: params}
    assert site.child.call("waits")["value"] == "unsupported"
    assert site.shown("/view")["params"] == "/view"


def test_a_thread_that_waits_for_a_reply_does_not_keep_the_process_from_its_end(wsgi):
    site = wsgi("site_web")
    site.child.answers = {"call": lambda params: NO_ANSWER}
    site.shown("/thread")
    site.child.wait(lambda message: message.get("method") == "call")
    site.child.send({"t": "drain", "within_ms": 1000})
    assert site.child.process.wait(20) == 0


def test_a_process_that_no_mount_has_started_is_told_so():
    with pytest.raises(pagewire.Error, match="not one of a mount"):
        pagewire.current()
