"""The poll of a page."""

from __future__ import annotations

import datetime
from typing import Any

from gnr.core.gnrbag import Bag

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)


def test_a_page_that_is_unknown_is_false(site):
    assert site.handle_ping(page_id="p9") is False


def begin_poll(site: Any) -> None:
    site.site.begin("p1", path="/_ping")


def test_a_ping_without_news_costs_one_message_and_one_more_when_times_are_due(site, open_page, register):
    open_page(site)
    begin_poll(site)
    site.handle_ping(page_id="p1")
    begin_poll(site)
    register.asked.clear()
    site.handle_ping(page_id="p1")
    assert register.asked == ["register.read"]
    register.asked.clear()
    begin_poll(site)
    site.handle_ping(page_id="p1", _lastUserEventTs=datetime.datetime.now() + datetime.timedelta(minutes=1))
    assert register.asked == ["register.read", "register.write"]


def test_what_is_published_before_a_ping_is_in_its_answer_once(site, process, open_page, register):
    open_page(site)
    begin_poll(site)
    site.handle_ping(page_id="p1")
    process().setInClientData("a", 1, page_id="p1")
    begin_poll(site)
    register.asked.clear()
    assert site.handle_ping(page_id="p1").getItem("dataChanges.sc_0") == 1
    assert register.asked == ["register.read", "register.take"]
    begin_poll(site)
    assert site.handle_ping(page_id="p1").getItem("dataChanges") is None


def test_what_a_ping_publishes_for_its_own_page_is_in_its_answer(site, open_page):
    open_page(site)
    site.subscribe_path("p1", "a")
    begin_poll(site)
    envelope = site.handle_ping(page_id="p1", _serverstore_changes={"a": "5::L"})
    assert envelope.getItem("dataChanges.sc_0") == 5


def test_a_call_takes_what_was_published_while_it_ran(site, process, open_page):
    open_page(site)
    site.site.begin("p1")
    assert site.page("p1")
    process().setInClientData("a", 1, page_id="p1")
    assert [change.path for change in site.subscription_storechanges("guest_c1", "p1")] == ["a"]


def test_a_server_that_does_not_say_whether_there_are_news_is_asked_for_them(site, process, open_page, register):
    open_page(site)
    read = register.do_read
    register.do_read = lambda **params: {name: value for name, value in read(**params).items() if name != "news"}
    process().setInClientData("a", 1, page_id="p1")
    begin_poll(site)
    assert site.handle_ping(page_id="p1").getItem("dataChanges.sc_0") == 1


def test_the_pages_below_a_page_cost_one_message_together(site, open_page, register):
    for page in ("p1", "p2", "p3"):
        open_page(site, page)
    begin_poll(site)
    children = {"p2": {}, "p3": {}}
    site.handle_ping(page_id="p1", _children_pages_info=children)
    begin_poll(site)
    register.asked.clear()
    site.handle_ping(page_id="p1", _children_pages_info=children)
    assert register.asked == ["register.read", "register.read"]


def test_a_ping_raises_the_times_of_page_connection_and_user(site, open_page):
    open_page(site)
    site.handle_ping(page_id="p1", _lastUserEventTs=NOW, _lastRpc=NOW)
    site.handle_ping(page_id="p1", _lastUserEventTs=NOW - datetime.timedelta(1))
    for item in (site.page("p1"), site.connection("c1"), site.user("guest_c1")):
        assert item["last_user_ts"] == NOW and item["last_rpc_ts"] == NOW
        assert isinstance(item["last_refresh_ts"], datetime.datetime)


def test_a_ping_that_races_with_a_change_loses_neither(site, process, open_page, register):
    open_page(site)
    other, raced = process(), []

    def race(method, params):
        if method == "register.write" and not raced:
            raced.append(True)
            other.pageStore("p1").setItem("a", 1)

    register.before = race
    assert site.handle_ping(page_id="p1", _lastUserEventTs=NOW) is not False
    assert site.pageStore("p1").getItem("a") == 1 and site.page("p1")["last_user_ts"] == NOW


def test_the_answer_has_the_changes_of_the_page_and_of_its_children(site, open_page):
    open_page(site, "p1")
    open_page(site, "p2")
    site.setInClientData("a", 1, page_id="p1")
    site.setInClientData("b", 2, page_id="p2", reason="r", fired=True)
    children = {"p2": {"_lastUserEventTs": None, "_lastRpc": None, "_pageProfilers": None, "form.x": "5::L"}}
    envelope = site.handle_ping(page_id="p1", _children_pages_info=children, _serverstore_changes={"y": "6::L"})
    assert envelope.getItem("dataChanges.sc_0") == 1
    assert envelope.getNode("dataChanges.sc_0").attr["change_path"] == "a"
    node = envelope.getNode("childDataChanges.p2.sc_0")
    assert (node.value, node.attr["change_reason"], node.attr["change_fired"]) == (2, "r", True)
    assert site.pageStore("p2").getItem("form.x") == 5 and site.pageStore("p1").getItem("y") == 6
    assert "p2" in children  # the caller's dictionary is not emptied


def test_the_answer_says_whether_a_batch_runs(site, open_page):
    open_page(site)
    store = site.userStore("guest_c1")
    store.setItem("lastBatchUpdate", datetime.datetime.now())
    assert site.handle_ping(page_id="p1").getItem("runningBatch") is True
    store.setItem("lastBatchUpdate", datetime.datetime.now() - datetime.timedelta(days=1))
    assert site.handle_ping(page_id="p1").getItem("runningBatch") is None
    assert store.getItem("lastBatchUpdate") is None


def test_the_envelope_is_xml_without_news(site, open_page):
    open_page(site)
    envelope = site.handle_ping(page_id="p1")
    assert isinstance(envelope, Bag) and "<result" in envelope.toXml()
