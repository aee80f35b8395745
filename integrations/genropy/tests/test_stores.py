"""Stores: values, changes, locks."""

from __future__ import annotations

import datetime
import threading

import pytest
from gnr.core.gnrbag import Bag

from pagewire_genropy.errors import GnrDaemonLocked

VALUES = [
    None,
    True,
    1,
    1.5,
    "è",
    b"x",
    datetime.date(2026, 1, 2),
    {1, 2},
    {"a": [1]},
    (1, 2),
    Bag({"a": Bag({"b": 1})}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_of_any_type_is_the_same_in_another_process(site, process, open_page, value):
    open_page(site)
    site.pageStore("p1").setItem("a.b", value, note="n")
    other = process().pageStore("p1")
    assert other.getItem("a.b") == value
    assert other.getNode("a.b").attr == {"note": "n"}


def test_what_a_caller_changes_in_a_value_does_not_reach_the_store(site, open_page):
    open_page(site)
    given = {"a": [1]}
    site.pageStore("p1").setItem("x", given)
    given["a"].append(2)
    read = site.pageStore("p1").getItem("x")
    read["a"].append(3)
    assert site.pageStore("p1").getItem("x") == {"a": [1]}


def test_the_whole_data_keeps_its_order(site, process, open_page):
    open_page(site, b=1, a=2)
    site.pageStore("p1").setItem("c", 3)
    site.pageStore("p1").setItem("b", 4)
    assert process().pageStore("p1").getItem("").items() == [("b", 4), ("a", 2), ("c", 3)]


def test_methods_of_a_bag_work_on_a_store_and_on_its_data(site, open_page):
    open_page(site, a=Bag({"b": 1}))
    store = site.pageStore("p1")
    store.update(Bag({"x": 1, "a": Bag({"c": 2})}))
    assert store.data["x"] == 1 and "x" in store.data and len(store.data) == 2
    assert store.getItem("a").keys() == ["b", "c"]
    assert store.popNode("x").value == 1 and store.getItem("x") is None
    assert store.data.chunk("a").getItem("b") == 1
    store.data.chunk("a").setItem("b", 5)
    store.data["y"] = 7
    assert store.getItem("a.b") == 5 and store.get("y") == 7
    assert store.pop("a.b") == 5 and store.getItem("a.b") is None
    with pytest.raises(AttributeError):
        store.no_method_of_a_bag()
    store.clear()
    assert len(store.data) == 0


def test_a_change_made_meanwhile_is_kept_and_the_own_one_is_made_again(site, process, open_page, register):
    open_page(site, a=Bag({"mine": 0, "other": 0}))
    other = process()
    raced = []

    def race(method, params):
        if method == "register.write" and not raced:
            raced.append(True)
            other.pageStore("p1").setItem("a.other", 1)

    register.before = race
    site.pageStore("p1").setItem("a.mine", 1)
    assert raced and process().pageStore("p1").getItem("a").items() == [("mine", 1), ("other", 1)]


def test_a_block_writes_once_at_its_end_and_sees_its_own_changes(site, process, open_page, register):
    open_page(site)
    register.asked.clear()
    with site.pageStore("p1") as store:
        store.setItem("a", 1)
        store.setItem("b", store.getItem("a") + 1)
        assert site.pageStore("p1").getItem("b") == 2
        assert process().pageStore("p1").getItem("a") is None
    assert register.asked.count("register.write") == 1
    assert process().pageStore("p1").getItem("b") == 2


def test_a_block_that_fails_has_written_what_it_changed_before(site, process, open_page):
    open_page(site)
    with pytest.raises(KeyError), site.pageStore("p1") as store:
        store.setItem("a", 1)
        raise KeyError
    assert process().pageStore("p1").getItem("a") == 1


def test_a_block_whose_item_others_have_changed_is_written_with_their_change(site, process, open_page):
    open_page(site, a=Bag())
    with site.pageStore("p1") as store:
        store.setItem("a.mine", 1)
        process().pageStore("p1").setItem("a.other", 2)  # without the lock, which is advisory
    assert process().pageStore("p1").getItem("a").items() == [("other", 2), ("mine", 1)]


def test_nothing_is_written_for_a_value_that_is_there_already(site, open_page, register):
    open_page(site, mixin_set={1, 2})
    register.asked.clear()
    with site.pageStore("p1") as store:
        store.setItem("mixin_set", {2, 1})
    assert "register.write" not in register.asked


def test_a_lock_is_counted_in_its_thread_and_excludes_others(site, process, open_page):
    open_page(site)
    failures = []

    def contend():
        try:
            with process().pageStore("p1"):
                pass
        except GnrDaemonLocked as error:
            failures.append(error)

    with site.pageStore("p1"):
        with site.pageStore("p1"):
            pass
        thread = threading.Thread(target=contend)
        thread.start()
        thread.join()
    assert len(failures) == 1
    with process().pageStore("p1"):
        pass
    assert site.locked_exception is GnrDaemonLocked


def test_counters_of_two_processes_do_not_lose_a_step(site, process):
    sites = [site, process()]

    def count(own):
        for _ in range(20):
            with own.globalStore() as store:
                store.setItem("n", (store.getItem("n") or 0) + 1)

    threads = [threading.Thread(target=count, args=(own,)) for own in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process().globalStore().getItem("n") == 40


def test_the_global_store_exists_before_anything_is_written(site):
    assert site.globalStore().getItem("CACHE_TS.x") is None
    site.globalStore().setItem("CACHE_TS.x", 1)
    assert site.globalStore().getItem("CACHE_TS") == Bag({"x": 1})


def test_the_environment_of_the_database_is_merged(site, open_page):
    open_page(site, dbenv=Bag({"a": 1, "b": 1}), rootenv=Bag({"b": 2}))
    site.pageStore("p1").setItem("x.c", 3, dbenv=True)
    site.pageStore("p1").setItem("x.d", 4, dbenv="e")
    assert site.get_dbenv("p1", register_name="page").asDict() == {"a": 1, "b": 2, "c": 3, "e": 4}
    assert len(site.get_dbenv("p9", register_name="page")) == 0
