"""Items: how they come, what they contain, and how they go."""

from __future__ import annotations

import datetime

import pytest
from gnr.core.gnrbag import Bag


def test_a_connection_brings_its_user_and_has_the_fields_of_genropy(site, open_page):
    open_page(site)
    item = site.connection("c1")
    assert item["register_item_id"] == "c1" and item["register_name"] == "connection"
    assert item["user"] == "guest_c1" and item["user_ip"] == "1.2.3.4"
    assert isinstance(item["start_ts"], datetime.datetime)
    assert site.user("guest_c1")["user"] == "guest_c1"
    assert set(site.users()) == {"guest_c1"}


def test_a_known_connection_is_refused(site, open_page):
    open_page(site)
    with pytest.raises(AssertionError, match="already registered"):
        site.siteregister.new_connection("c1", user="guest_c1")


def test_a_page_has_its_data_and_replaces_an_older_one(site, open_page):
    open_page(site, pageArgs={"a": 1}, rootenv=Bag({"language": "it"}))
    page = site.page("p1", include_data="lazy")
    assert page["connection_id"] == "c1" and page["relative_url"] == "/" and page["subscribed_tables"] == []
    assert page["data"]["pageArgs"] == {"a": 1} and page["data"].getItem("rootenv.language") == "it"
    open_page(site, rootenv=Bag())
    assert site.pageStore("p1").getItem("pageArgs") is None


def test_what_does_not_exist_is_none(site):
    assert site.page("p1") is None and site.page(None) is None
    assert site.pageStore("p1").getItem("a") is None
    assert site.pageStore("p1").data is None
    assert not site.exists("p1", register_name="page")


def test_pages_are_found_by_connection_user_and_filter(site, open_page):
    open_page(site, "p1", "c1")
    open_page(site, "p2", "c2", user="ada")
    assert set(site.pages(connection_id="c1")) == {"p1"}
    assert set(site.pages(user="ada")) == {"p2"}
    assert set(site.pages(filters="*")) == {"p1", "p2"}
    assert set(site.pages(filters="user:ad")) == {"p2"}
    assert set(site.pages(filters="user:a.* AND pagename:other")) == set()
    assert set(site.pages(filters="user:(")) == set()
    assert [page["user"] for page in site.siteregister.pages(user="ada")] == ["ada"]


def test_a_login_gives_connection_and_pages_to_the_user_and_ends_the_guest(site, open_page):
    open_page(site)
    site.change_connection_user("c1", user="ada", user_id="u1", user_name="Ada", user_tags="x", avatar_extra={"a": [1]})
    assert site.connection("c1")["user"] == "ada" and site.connection("c1")["avatar_extra"] == {"a": [1]}
    assert site.page("p1")["user"] == "ada"
    assert site.user("ada")["user_name"] == "Ada" and site.user("ada")["avatar_extra"] == {"a": [1]}
    assert site.user("guest_c1") is None


def test_a_logout_drops_pages_and_the_user_whose_last_connection_it_was(site, open_page):
    open_page(site, "p1", "c1", user="ada")
    open_page(site, "p2", "c2", user="ada")
    site.drop_connection("c1", cascade=True)
    assert site.page("p1") is None and site.user("ada") is not None
    site.drop_connection("c2", cascade=True)
    assert site.user("ada") is None
    site.drop_page("p1")  # unknown, and no error


def test_old_pages_and_connections_expire_by_seconds_and_not_by_days(site, register, open_page):
    open_page(site, "p1", "c1", user="ada")
    two_days = 2 * 86400 + 5
    for item in register.items.values():
        item["fields"]["start_ts"] -= two_days
        item["revision"] += 1000
    assert site.expire_pages("c1") == ["p1"]
    assert site.expire_connection("c1") is True and site.expire_connection("c1") is False
    assert site.user("ada") is None


def test_only_one_caller_may_clean_up(site, process):
    assert site.claim_cleanup(60) is True
    assert process().claim_cleanup(60) is False


def test_fields_that_a_client_chooses_are_cut(site):
    site.siteregister.new_connection("c1", user="guest_c1", user_agent="x" * 5000)
    assert len(site.connection("c1")["user_agent"]) == 600
