"""What a site does in the tests of the shadow.

Owns: the work, and what is read of a shadow. Never: what is expected.
"""

from __future__ import annotations

import time

from gnr.core.gnrbag import Bag


def counts(site):
    found = site._pair.report.counts
    return found["differences"], found["errors"]


def second(site):
    return site._pair.second()


def subscribe_chat(site, page):
    site.setStoreSubscription(page_id=page, storename="user", client_path="gnr.chat", active=True)


def work(site, open_page):
    """Does what a site does: logins, stores, changes, table events, polls."""
    open_page(site, "p1", "c1", pageArgs={"a": 1}, rootenv=Bag({"language": "it", "workdate": None}))
    open_page(site, "p2", "c2", user="eve")
    site.change_connection_user("c1", user="ada", user_id="u1", user_name="Ada", user_tags="x", avatar_extra={"a": [1]})
    for verb, id in (("connection", "c1"), ("user", "ada"), ("page", "p1"), ("user", "guest_c1")):
        getattr(site, verb)(id)
    assert set(site.pages()) == {"p1", "p2"} and set(site.users()) == {"ada", "eve"}
    assert set(site.pages(connection_id="c1")) == {"p1"} and set(site.connections(user="eve")) == {"c2"}
    with site.pageStore("p1") as store:
        store.setItem("mixin_set", (store.getItem("mixin_set") or set()) | {"one"})
    with site.globalStore() as store:
        store.setItem("CACHE_TS.menu", 5)
    site.userStore("ada").setItem("cached.user", Bag({"name": "Ada"}), _caching_table="adm.user")
    site.setPendingContext("p1", [("ctx", Bag({"a": 1}), {"x": 1})], register_name="page")
    site.pageStore("p1").setItem("ctx.a", 2)
    for page in ("p1", "p2"):
        site.subscribeTable(page, table="adm.user", subscribe=True)
        subscribe_chat(site, page)
    assert site.filter_subscribed_tables(["adm.user", "adm.none"], register_name="page") == ["adm.user"]
    site.notifyDbEvents({"adm.user": [{"dbevent": "U", "pkey": "u1"}]}, register_name="page", origin_page_id="p1")
    site.setInClientData(
        "a.b", Bag({"x": 1}), {"note": "n"}, page_id="p2", fired=True, reason="r", register_name="page"
    )
    site.userStore("eve").set_datachange("gnr.chat.msg.1", "hello", fired=True, reason="chat_out")
    assert site.userStore("ada").getItem("cached.user") is None
    assert site.get_dbenv("p1", register_name="page")["language"] == "it"


def eventually(holds):
    """Waits until something is there."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.01)
