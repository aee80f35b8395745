"""Events of tables and values that are cached with them."""

from __future__ import annotations

import pytest
from gnr.core.gnrbag import Bag
from pagewire.errors import Error

EVENTS = [{"dbevent": "U", "pkey": "1"}]


def test_an_event_reaches_the_pages_that_subscribe_its_table_and_the_one_that_has_caused_it(site, open_page):
    for number in (1, 2, 3):
        open_page(site, f"p{number}", f"c{number}")
    for page in ("p1", "p2"):
        site.subscribeTable(page_id=page, table="invc.customer", subscribe=True)
    assert site.filter_subscribed_tables(["invc.customer", "invc.product"], register_name="page") == ["invc.customer"]
    site.notifyDbEvents(
        {"invc.customer": EVENTS, "x.y": []}, register_name="page", origin_page_id="p1", dbevent_reason="r"
    )
    for page, count in (("p1", 1), ("p2", 1), ("p3", 0)):
        changes = site.subscription_storechanges(None, page)
        assert len(changes) == count
        for change in changes:
            assert change.path == "gnr.dbchanges.invc_customer" and change.value == EVENTS
            assert change.attributes == {"from_page_id": "p1", "dbevent_reason": "r"}


def test_a_subscription_ends_and_is_not_sent_twice(site, open_page, register):
    open_page(site)
    register.asked.clear()
    for _ in range(2):
        site.subscribeTable(page_id="p1", table="a.b", subscribe=True)
    assert register.asked.count("register.subscribe") == 1
    assert site.page("p1")["subscribed_tables"] == ["a.b"]
    site.subscribeTable(page_id="p1", table="a.b", subscribe=False)
    assert site.page("p1")["subscribed_tables"] == []
    assert site.filter_subscribed_tables(["a.b"]) == []


def test_a_table_for_a_page_that_is_unknown_is_an_error(site):
    with pytest.raises(Error, match="no page"):
        site.subscribeTable(page_id="p9", table="a.b", subscribe=True)


def test_values_that_cache_a_table_end_with_an_event_of_it_in_every_process(site, process, open_page):
    open_page(site, "p1", "c1")
    open_page(site, "p2", "c2")
    for page in ("p1", "p2"):
        with site.pageStore(page) as store:
            store.setItem("cache.adm.user", Bag({"x": 1}), _caching_table="adm.user")
            store.setItem("cache.adm.group", 1, _caching_table="adm.group")
    other = process()
    other.notifyDbEvents({"adm.user": EVENTS})
    for page in ("p1", "p2"):
        assert site.pageStore(page).getItem("cache.adm.user") is None
        assert site.pageStore(page).getItem("cache.adm.group") == 1


def test_an_event_of_a_table_that_nothing_caches_asks_for_no_items(site, open_page, register):
    open_page(site)
    register.asked.clear()
    site.notifyDbEvents({"invc.customer": EVENTS})
    assert "register.list" not in register.asked
