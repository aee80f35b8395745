"""The shadow: gnrdaemon answers, the register of Pagewire is asked as well, and both are compared."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

from conftest import DaemonSite
from pagewire_genropy import shadow_ahead, siteregister_client
from pagewire_genropy.errors import NotBelowPagewire
from pagewire_genropy.keys import Key
from pagewire_genropy.shadow import ShadowClient
from pagewire_genropy.shadow_ahead import settle
from shadow_work import counts, second, work

SOURCE = Path(__file__).parents[1] / "src"


def test_both_answer_alike_and_the_answers_are_those_of_the_daemon(both, open_page, gnrdaemon):
    work(both, open_page)
    polled = both.handle_ping(page_id="p2", _lastUserEventTs=None, _lastRpc=None)
    assert [node.attr["change_path"] for node in polled["dataChanges"]] == [
        "gnr.dbchanges.adm_user",
        "a.b",
        "gnr.chat.msg.1",
    ]
    assert [change.path for change in both.subscription_storechanges("ada", "p1")] == [
        "ctx.a",
        "gnr.dbchanges.adm_user",
    ]
    assert both.page("p1")["start_ts"] == gnrdaemon.register.page("p1")["start_ts"]
    both.drop_page("p2", cascade=False)
    both.drop_connection("c1", cascade=True)
    assert both.page("p2") is None and set(both.pages()) == set() and set(both.users()) == {"eve"}
    assert counts(both) == (0, 0)
    assert both._pair.report.counts["compared"] >= 20


def test_a_difference_is_reported_once_and_the_item_is_copied_again(both, open_page, caplog):
    open_page(both)
    second(both).pageStore("p1").setItem("a", "wrong")
    with caplog.at_level(logging.WARNING):
        assert both.pageStore("p1").getItem("a") is None
        assert both.pageStore("p1").getItem("a") is None
    assert [record.message for record in caplog.records] == [
        "a register differs: store.getItem page p1: None and 'wrong'"
    ]
    assert counts(both) == (1, 0)


def test_a_change_that_only_one_has_given_a_page_is_reported_when_it_is_late(both, open_page, monkeypatch):
    open_page(both)
    second(both).setInClientData("more", 1, page_id="p1", register_name="page")
    both.handle_ping(page_id="p1")
    both.handle_ping(page_id="p1")
    assert counts(both) == (0, 0)
    monkeypatch.setattr(shadow_ahead, "LATE", -1.0)
    both.handle_ping(page_id="p1")
    assert counts(both) == (1, 0)
    both.handle_ping(page_id="p1")
    assert counts(both) == (1, 0)


def test_a_change_and_its_twin_may_come_with_two_polls_at_two_processes(shadow, open_page):
    one, other = shadow(), shadow()
    open_page(one)
    one._first.setInClientData("a", 1, page_id="p1", register_name="page")
    one.handle_ping(page_id="p1")
    second(one).setInClientData("a", 1, page_id="p1", register_name="page")
    other.handle_ping(page_id="p1")
    assert counts(one) == counts(other) == (0, 0)
    waiting, late = settle((), [("a", 1)], [], time.time())
    assert len(waiting) == 1 and not late
    assert settle(waiting, [], [("a", 1)], time.time()) == ([], [])


def test_an_error_of_the_second_register_harms_nobody_and_what_it_has_missed_is_copied(
    both, open_page, register, caplog
):
    open_page(both)

    def fail(method, params):
        raise ConnectionError("the second register is away")

    register.before = fail
    with both.pageStore("p1") as store:
        store.setItem("a", 1)
    assert both.pageStore("p1").getItem("a") == 1
    both.setInClientData("news", 1, page_id="p1", register_name="page")
    assert [change.path for change in both.subscription_storechanges(None, "p1")] == ["news"]
    assert counts(both)[1] > 0 and "the second register fails" in caplog.text
    register.before = lambda method, params: None
    assert both.pageStore("p1").getItem("a") == 1
    assert second(both).pageStore("p1").getItem("a") == 1
    assert counts(both)[0] == 0


def test_a_lock_that_is_left_in_the_second_register_makes_nobody_wait(both, open_page, register):
    open_page(both)
    register.lock_acquire("register.shop.page.p1", 1, 0)
    with both.pageStore("p1") as store:
        store.setItem("a", 1)
    assert both.pageStore("p1").getItem("a") == 1 and second(both).pageStore("p1").getItem("a") == 1
    assert counts(both) == (0, 1)


def test_an_error_at_the_end_of_a_section_does_not_leave_it_open(both, open_page, register):
    open_page(both)

    def fail_once(method, params):
        register.before = lambda method, params: None
        raise ConnectionError("the second register is away")

    with both.pageStore("p1") as store:
        store.setItem("a", 1)
        register.before = fail_once
    assert second(both).siteregister.core.locks.section(Key("page", "p1")) is None
    with both.pageStore("p1") as store:
        store.setItem("b", 2)
    found = both.pageStore("p1"), second(both).pageStore("p1")
    assert [(store.getItem("a"), store.getItem("b")) for store in found] == [(1, 2), (1, 2)]
    assert counts(both) == (0, 1)


def test_lines_of_the_log_are_limited_and_counts_are_not(both, caplog):
    report = both._pair.report
    for number in range(150):
        report.differs("verb", str(number), "1", "2")
    assert report.counts["differences"] == 150
    # a minute may end meanwhile
    assert 100 <= len(caplog.records) <= 150


def test_the_second_register_is_not_asked_while_the_application_is_imported(both, register, monkeypatch):
    monkeypatch.setattr(register, "is_open", lambda: False)
    register.asked.clear()
    both.globalStore().setItem("CACHE_TS.menu", 5)
    assert both.globalStore().getItem("CACHE_TS.menu") == 5
    assert register.asked == [] and counts(both) == (0, 0)
    monkeypatch.setattr(register, "is_open", lambda: True)
    assert both.globalStore().getItem("CACHE_TS.menu") == 5
    assert counts(both) == (0, 0) and second(both).globalStore().getItem("CACHE_TS.menu") == 5


def test_lazy_data_are_those_of_both(both, open_page):
    open_page(both, a=1)
    item = both.page("p1", include_data="lazy")
    item["data"]["b"] = 2
    item["data"].setItem("c.d", 3)
    assert (item["data"]["a"], item["data"].getItem("c.d"), "b" in item["data"], len(item["data"])) == (1, 3, True, 3)
    assert second(both).pageStore("p1").getItem("c.d") == 3
    assert both.pages(include_data="lazy")["p1"]["data"]["b"] == 2
    assert both.pageStore("p1").register_item["data"]["b"] == 2 and both.pageStore("p9").data is None
    assert counts(both) == (0, 0)


def test_the_daemon_decides_what_is_too_old(both, open_page, gnrdaemon):
    open_page(both, "p1", "c1", user="ada")
    item = gnrdaemon.register.page("p1")
    item["start_ts"] = item["start_ts"].replace(year=2020, hour=(item["start_ts"].hour + 12) % 24)
    assert both.expire_pages("c1") == ["p1"] and second(both).page("p1") is None
    item = gnrdaemon.register.connection("c1")
    item["start_ts"] = item["start_ts"].replace(year=2020, hour=(item["start_ts"].hour + 12) % 24)
    assert both.expire_connection("c1") is True
    assert second(both).connection("c1") is None and second(both).user("ada") is None


def test_a_site_keeps_its_own_sockets(both):
    assert not hasattr(both.site, "_wsk")


def test_a_program_beside_the_site_has_the_daemon_alone(gnrdaemon, monkeypatch):
    def refuse():
        raise NotBelowPagewire("no")

    monkeypatch.setattr(siteregister_client, "connect", refuse)
    site = DaemonSite()
    alone = ShadowClient(site, gnrdaemon.client(site))
    alone.globalStore().setItem("a", 1)
    assert alone.globalStore().getItem("a") == 1 and counts(alone) == (0, 0)


def test_genropy_loads_its_own_modules_with_the_shadow_as_the_register_of_a_site():
    script = """
import sys, types, daemon
for name in ("Pyro4", "gnr.web.gnrwebpage"):
    sys.modules[name] = daemon.modules()[name]
from gnr.web.daemon.siteregister_client import SiteRegisterClient, ServerStore
from gnr.web.daemon.siteregister import PYRO_PORT, SiteRegister
import gnr.web.daemon.processes as processes
from pagewire_genropy.shadow import ShadowClient
assert issubclass(SiteRegisterClient, ShadowClient)
assert ServerStore.__module__ == "gnr.web.daemon.siteregister_client"
for module in (processes, sys.modules["gnr.web.daemon.siteregister"]):
    assert "gnr/web/daemon" in module.__file__
"""
    folders = [str(Path(__file__).parent), str(SOURCE), str(SOURCE.parents[2] / "clients/python/src"), *sys.path]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(folders), "PAGEWIRE_REGISTER": "shadow:genropy", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
