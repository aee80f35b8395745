"""What was there before the shadow, and what the register has kept from an earlier time."""

from __future__ import annotations

from gnr.core.gnrbag import Bag

from pagewire_genropy.shadow_adoption import MARK
from shadow_work import counts, eventually, second, work


def test_a_page_that_was_open_before_gets_into_the_second_register_with_its_next_request(before, shadow, open_page):
    work(before, open_page)
    site = shadow()
    assert site.page("p1")["user"] == "ada"
    assert site.pageStore("p1").getItem("rootenv.language") == "it"
    assert second(site).page("p1")["subscribed_tables"] == ["adm.user"]
    assert second(site).connection("c1")["user_name"] == "Ada" and second(site).user("ada")["avatar_extra"] == {
        "a": [1]
    }
    assert second(site).page("p2") is None, "it has made no request yet"
    assert counts(site) == (0, 0)


def test_a_user_without_open_pages_stays_logged_in(before, shadow, open_page, process):
    open_page(before, "p1", "c1", user="ada")
    before.drop_page("p1")
    shadow().globalStore().getItem("any")
    eventually(lambda: process().connection("c1"))
    assert process().connection("c1")["user"] == "ada" and process().user("ada") is not None


def test_what_waits_for_a_page_and_its_user_waits_in_the_second_register_too(before, shadow, open_page):
    work(before, open_page)
    site = shadow()
    for page in ("p1", "p2"):
        assert len(site.handle_ping(page_id=page)["dataChanges"]) > 1
    site.setInClientData("later", 1, filters="*", register_name="page")
    site.userStore("eve").set_datachange("gnr.chat.msg.2", "again")
    assert [node.attr["change_path"] for node in site.handle_ping(page_id="p2")["dataChanges"]][-1] == "gnr.chat.msg.2"
    assert counts(site) == (0, 0)


def test_a_cached_value_of_an_open_page_ends_in_both_with_an_event_of_its_table(before, shadow, open_page):
    open_page(before, "p1", "c1")
    before.pageStore("p1").setItem("cached.user", Bag({"name": "Ada"}), _caching_table="adm.user")
    site = shadow()
    assert site.pageStore("p1").getItem("cached.user.name") == "Ada"
    site.notifyDbEvents({"adm.user": [{"dbevent": "U", "pkey": "u1"}]}, register_name="page")
    assert site.pageStore("p1").getItem("cached.user") is None
    assert counts(site) == (0, 0)


def test_lists_take_over_all_pages_and_end_what_was_kept_from_an_earlier_time(before, shadow, open_page, process):
    open_page(process(), "old", "c9", user="zoe")
    for page in ("p1", "p2"):
        open_page(before, page, "c1", user="ada")
        before.subscribeTable(page, table="adm.user", subscribe=True)
    site = shadow()
    assert site.filter_subscribed_tables(["adm.user"], register_name="page") == ["adm.user"]
    assert set(site.users()) == {"ada"} and set(site.connections()) == {"c1"} and set(site.pages()) == {"p1", "p2"}
    assert second(site).page("old") is None and second(site).user("zoe") is None
    assert counts(site) == (0, 0)


def test_pages_go_on_in_phase_4(before, shadow, open_page, process):
    work(before, open_page)
    site = shadow()
    for page in ("p1", "p2"):
        site.handle_ping(page_id=page)
    site.pageStore("p1").setItem("written", 1)
    alone = process()
    alone.setInClientData("news", 2, page_id="p1", register_name="page")
    assert alone.pageStore("p1").getItem("written") == 1 and alone.page("p1")["user"] == "ada"
    assert [change.path for change in alone.subscription_storechanges("ada", "p1")] == ["news"]


def test_items_of_the_shadow_have_its_mark_and_genropy_does_not_see_it(both, open_page, register):
    open_page(both)
    assert all(MARK in item["fields"] for (level, _), item in register.items.items() if level != "global")
    assert MARK not in second(both).page("p1")
