"""Data changes: who receives them, how often and in which order."""

from __future__ import annotations

import datetime

from gnr.core.gnrbag import Bag


def paths(changes):
    return [change.path for change in changes]


def take(site, page="p1", user="ada"):
    return site.subscription_storechanges(user, page)


def subscribe(site, page="p1", path="gnr.chat"):
    site.setStoreSubscription(page_id=page, storename="user", client_path=path, active=True)


def test_a_change_for_a_page_is_taken_once(site, process, open_page):
    open_page(site)
    site.setInClientData(
        "a.b", Bag({"x": 1}), {"note": "n"}, page_id="p1", fired=True, reason="r", register_name="page"
    )
    (change,) = process().subscription_storechanges(None, "p1")
    assert (change.path, change.reason, change.fired, change.delete) == ("a.b", "r", True, False)
    assert change.value == Bag({"x": 1}) and change.attributes == {"note": "n"}
    assert isinstance(change.change_ts, datetime.datetime)
    assert take(site) == []


def test_a_filter_reaches_the_pages_that_match_and_no_others(site, open_page):
    open_page(site, "p1", "c1", user="ada")
    open_page(site, "p2", "c2", user="eve")
    site.setInClientData("one", 1, filters="user:ada")
    site.setInClientData("two", 2, filters=r"user:(?P<x>ad)a")  # only Python knows this one
    site.setInClientData("three", 3, filters="*")
    assert paths(take(site)) == ["one", "two", "three"]
    assert paths(take(site, "p2", "eve")) == ["three"]


def test_a_bag_of_changes_reaches_every_page_whole(site, open_page):
    open_page(site, "p1", "c1")
    open_page(site, "p2", "c2")
    bag = Bag()
    bag.setItem("n", 1, _client_path="x.y", fired=True, other=2)
    site.setInClientData(bag, filters="*")
    for page in ("p1", "p2"):
        (change,) = take(site, page)
        assert (change.path, change.value, change.attributes, change.fired) == ("x.y", 1, {"other": 2}, True)


def test_a_change_that_replaces_removes_equal_ones_before_it(site, open_page):
    open_page(site)
    store = site.pageStore("p1")
    for value in (1, 2):
        store.set_datachange("a", value, reason="r", replace=True)
    store.set_datachange("a", 3, reason="other")
    assert [change.value for change in take(site)] == [2, 3]


def test_changes_that_wait_are_dropped_by_the_beginning_of_their_path(site, open_page):
    open_page(site)
    site.pageStore("p1").set_datachange("a.b", 1)
    site.pageStore("p1").set_datachange("c", 1)
    site.pageStore("p1").drop_datachanges("a")
    assert paths(take(site)) == ["c"]
    site.pageStore("p1").set_datachange("c", 1)
    site.pageStore("p1").reset_datachanges()
    assert take(site) == []


def test_a_page_that_is_unknown_gets_nothing_and_there_is_no_error(site):
    site.set_datachange("p9", "a", 1, register_name="page")
    site.set_datachange("nobody", "a", 1, register_name="user")
    site.setInClientData("a", 1)
    assert take(site, "p9") == []


def test_a_page_receives_a_change_of_its_users_store_that_is_older_than_its_subscription(site, open_page):
    open_page(site, user="ada")
    site.userStore("ada").set_datachange("gnr.chat.msg.1", "hello", fired=True, reason="chat_out")
    assert take(site) == []
    subscribe(site)
    (change,) = take(site)
    assert change.value == "hello" and change.attributes == {"_new_datachange": True}
    assert take(site) == []


def test_only_the_first_page_of_a_user_is_told_that_a_change_is_new(site, open_page):
    for page in ("p1", "p2"):
        open_page(site, page, user="ada")
        subscribe(site, page)
    site.userStore("ada").set_datachange("gnr.chat.msg.1", "hello")
    assert take(site, "p2")[0].attributes == {"_new_datachange": True}
    assert take(site, "p1")[0].attributes == {}


def test_two_requests_of_one_page_receive_a_change_of_the_users_store_once(site, process, open_page, register):
    open_page(site, user="ada")
    subscribe(site)
    site.userStore("ada").set_datachange("gnr.chat.msg.1", "hello")
    other, taken = process(), []

    def race(method, params):
        if method == "register.write" and not taken:
            taken.append(None)
            taken[:] = other.subscription_storechanges("ada", "p1")

    register.before = race
    assert len(take(site)) + len(taken) == 1


def test_a_subscription_that_is_off_delivers_nothing(site, open_page):
    open_page(site, user="ada")
    subscribe(site)
    site.setStoreSubscription(page_id="p1", storename="user", client_path="gnr.chat", active=False)
    site.userStore("ada").set_datachange("gnr.chat.msg.1", "hello")
    assert take(site) == []


def test_the_queue_of_a_user_can_be_read_dropped_and_replaced(site, open_page):
    open_page(site, user="ada")
    with site.userStore("ada") as store:
        store.set_datachange("gnr.batch.1", "a", reason="btc_create")
        store.set_datachange("gnr.batch.1.thermo", 1, reason="tl_upd", replace=True)
        store.set_datachange("gnr.batch.1.thermo", 2, reason="tl_upd", replace=True)
        assert paths(store.datachanges) == ["gnr.batch.1", "gnr.batch.1.thermo"]
    assert [change.value for change in site.userStore("ada").datachanges] == ["a", 2]
    site.userStore("ada").drop_datachanges("gnr.batch.1.")
    assert paths(site.userStore("ada").datachanges) == ["gnr.batch.1"]
    site.userStore("ada").reset_datachanges()
    assert site.userStore("ada").datachanges == [] and site.user("ada")["datachanges_idx"] == 3


def test_the_queue_of_a_user_keeps_the_last_changes_only(site, open_page, register):
    open_page(site, user="ada")
    with site.userStore("ada") as store:
        for number in range(450):
            store.set_datachange("a", number)
    assert [change.value for change in site.userStore("ada").datachanges][:1] == [50]
    for _ in range(12):
        site.userStore("ada").set_datachange("a", bytes(range(256)) * 120)
    assert len(str(register.items[("user", "ada")]["data"])) < 400_000


def test_a_change_of_a_subscribed_path_is_sent_to_the_page(site, open_page):
    open_page(site)
    site.setPendingContext("p1", [("ctx", Bag({"a": 1}), {"x": 1})], register_name="page")
    take(site)
    with site.pageStore("p1") as store:
        store.setItem("ctx.a", 2)
        store.setItem("other", 1)
    (change,) = take(site)
    assert (change.path, change.value, change.reason) == ("ctx.a", 2, "serverChange")
    assert site.pageStore("p1").subscribed_paths == {"ctx"}


def test_a_page_that_has_missed_changes_is_dropped_so_that_it_reloads(site, open_page, register):
    open_page(site)
    register.do_take = lambda page, peek=False: {"entries": [], "reset": True}
    assert site.handle_ping(page_id="p1") is False
    assert site.page("p1") is None
