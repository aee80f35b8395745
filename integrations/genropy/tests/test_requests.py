"""How many messages a request of HTTP costs, and how new what it reads is."""

from __future__ import annotations

import base64

import pytest
from pagewire.errors import Error

from pagewire_genropy import working_set
from pagewire_genropy.hints import connection_of

CONNECTION = "c" * 22


def cookie(connection: str = CONNECTION) -> str:
    # as `marshal` writes a short text
    return f"sig=?connection_id={base64.b64encode(bytes([0xFA, 22]) + connection.encode()).decode()}&user=x"


def test_a_request_reads_its_items_in_one_message(site, open_page, register):
    open_page(site, "p1", CONNECTION, rootenv=1)
    site.site.begin("p1", cookie())
    register.asked.clear()
    site.globalStore().getItem("CACHE_TS.x")
    assert site.page("p1") and site.connection(CONNECTION) and site.user(f"guest_{CONNECTION}")
    assert site.pageStore("p1").getItem("rootenv") == 1
    assert register.asked == ["register.read"]


def test_a_page_is_known_in_its_connection_without_another_message(site, open_page, register):
    open_page(site, "p1", CONNECTION)
    open_page(site, "p2", CONNECTION)
    site.site.begin("p1", cookie())
    register.asked.clear()
    pages = site.pages(connection_id=CONNECTION)
    assert "p1" in pages and "p9" not in pages and set(pages) == {"p1", "p2"} and len(pages) == 2
    assert register.asked == ["register.read"]
    assert pages["p2"]["pagename"] == "index" and len(pages.values()) == 2
    site.drop_page("p2")
    open_page(site, "p3", CONNECTION)
    assert set(site.pages(connection_id=CONNECTION)) == {"p1", "p3"}


def test_an_item_that_has_not_changed_is_not_transferred_again(site, open_page, register):
    open_page(site)
    answers = []
    ask = register.ask

    def record(method, params):
        answers.append(ask(method, params))
        return answers[-1]

    site.siteregister.core.channel = type("Channel", (), {"ask": staticmethod(record)})
    for _ in range(2):
        site.site.begin("p1")
        site.page("p1")
    assert all(item.get("same") for item in answers[-1]["items"] if item and item["level"] == "page")


def test_the_next_request_sees_what_another_process_has_written(site, process, open_page):
    open_page(site, a=1)
    site.site.begin("p1")
    assert site.pageStore("p1").getItem("a") == 1
    process().pageStore("p1").setItem("a", 2)
    assert site.pageStore("p1").getItem("a") == 1
    site.site.begin("p1")
    assert site.pageStore("p1").getItem("a") == 2


def test_a_long_request_reads_again(site, process, open_page, monkeypatch):
    open_page(site, a=1)
    site.site.begin("p1")
    site.pageStore("p1").getItem("a")
    process().pageStore("p1").setItem("a", 2)
    later = working_set.time.monotonic() + 3600
    monkeypatch.setattr(working_set.time, "monotonic", lambda: later)
    assert site.pageStore("p1").getItem("a") == 2


def test_a_request_reads_its_own_writes(site, open_page):
    open_page(site)
    site.site.begin("p1")
    site.pageStore("p1").setItem("a", 1)
    assert site.pageStore("p1").getItem("a") == 1


def test_without_a_request_each_use_reads(site, process, open_page):
    open_page(site)
    for number in range(2):
        process().pageStore("p1").setItem("a", number)
        assert site.pageStore("p1").getItem("a") == number


def test_errors_are_raised_and_never_become_none(site, register):
    def fail(method, params):
        raise Error("unavailable", "no engine", True)

    site.globalStore().getItem("a")
    register.before = fail
    for use in (lambda: site.page("p1"), lambda: site.globalStore().getItem("a"), site.connections):
        with pytest.raises(Error, match="no engine"):
            use()


def test_the_global_store_is_empty_while_the_application_is_imported(site, register):
    def refuse(method, params):
        raise Error("unavailable", "no request can be made while the application is imported", True)

    register.before = refuse
    assert site.globalStore().getItem("CACHE_TS.x") is None
    with pytest.raises(Error):
        site.connections()
    with pytest.raises(Error):
        site.globalStore().setItem("a", 1)


def test_a_forked_process_forgets_what_its_parent_has_read(site, open_page):
    open_page(site)
    core = site.siteregister.core
    before = core.replicas
    core.forked()
    assert core.replicas is not before and site.page("p1") is not None


def test_the_connection_is_searched_in_the_cookie_and_nothing_is_executed():
    assert connection_of(cookie()) == CONNECTION
    assert connection_of("sig=?connection_id=AAAA&x") is None
    assert connection_of("sig=?connection_id=A") is None
    assert connection_of("other") is None
