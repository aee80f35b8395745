"""What reaches a page over its socket: the commands of the site, and the message that a node fetches."""

from __future__ import annotations

import pytest
from gnr.core.gnrbag import Bag

from pagewire_genropy.errors import NotOverSockets


@pytest.fixture
def sockets(site):
    site.site.register = site
    site.site.websockets = True
    return site.site._wsk


def message(site, page="p1", **options):
    return site.handle_ping(page_id=page, reason="push", **options)


def sent(site, page="p1"):
    """Returns the changes of the message of a page: path, value, reason and whether each is fired."""
    text = message(site, page).toXml(unresolved=True, omitUnknownTypes=True)
    if not text:
        return []
    assert text.startswith("<?xml")
    read = Bag(text)
    assert read["command"] == "datachanges"
    attributes = [(node.attr, node.value) for node in read["data"]]
    return [(a["change_path"], value, a.get("change_reason"), bool(a.get("change_fired"))) for a, value in attributes]


def test_a_push_of_the_site_is_in_the_next_message_of_the_page_and_not_in_its_poll(site, sockets, open_page):
    open_page(site)
    sockets.setInClientData("p1", path="a.b", value=5, attributes={"x": 1}, reason="r")
    assert sent(site) == [("a.b", 5, "r", False)]
    assert sent(site) == [] and site.handle_ping(page_id="p1").getItem("dataChanges") is None


def test_what_was_polled_is_not_in_the_message(site, sockets, open_page):
    open_page(site)
    sockets.setInClientData("p1", path="a", value=5)
    assert site.handle_ping(page_id="p1").getItem("dataChanges.sc_0") == 5
    assert message(site).toXml() == ""


def test_pages_are_named_alone_in_a_list_with_commas_or_all_at_once(site, sockets, open_page):
    for page in ("p1", "p2", "p3"):
        open_page(site, page)
    sockets.setInClientData(["p1", "p2"], path="list", value=1)
    sockets.sendCommandToPage("p1,p3", "set", Bag({"path": "commas", "data": 2, "fired": True}))
    sockets.fireInClientData("*", path="all", data=3)
    sockets.setInClientData("", path="nobody", value=4)
    paths = {page: [path for path, *_ in sent(site, page)] for page in ("p1", "p2", "p3")}
    assert paths == {"p1": ["list", "commas", "all"], "p2": ["list", "all"], "p3": ["commas", "all"]}


def test_a_publication_reaches_the_publisher_of_the_client(site, sockets, open_page):
    open_page(site)
    sockets.publishToClient("p1", topic="news", data={"n": 1}, iframe="main")
    [(path, value, _, fired)] = sent(site)
    assert (path, fired) == ("gnr.publisher", True)
    assert "news" in str(value) and "main" in str(value)


def test_a_new_page_needs_no_announcement_and_other_commands_are_errors(site, sockets, open_page, register):
    open_page(site)
    asked = list(register.asked)
    sockets.sendCommandToPage("", "registerNewPage", Bag({"page_id": "p1"}))
    assert register.asked == asked and sockets.checkSocket()
    with pytest.raises(NotOverSockets, match="alert"):
        sockets.sendCommandToPage("p1", "alert", "x")
    with pytest.raises(NotOverSockets):
        sockets.sendCommandToRemoteService("printer", "print", None)


def test_a_change_of_the_store_of_a_user_is_announced_to_nodes(site, sockets, open_page, register):
    open_page(site)
    site.setStoreSubscription("p1", storename="user", client_path="chat", active=True)
    site.set_datachange("guest_c1", "chat.new", "hello", register_name="user")
    assert register.log[-1][1]["to"] == {"user": "guest_c1"}
    assert sent(site) == [("chat.new", "hello", None, False)]
    site.site.websockets = False
    site.set_datachange("guest_c1", "chat.new", "again", register_name="user")
    assert len(register.log) == 1


def test_the_message_is_not_older_than_the_position_that_a_node_has_seen(site, sockets, open_page, register):
    open_page(site)
    seen = []
    register.before = lambda method, params: seen.append(params.get("position")) if method == "register.take" else None
    message(site, position="17")
    message(site, position="no number")
    assert seen == [17, None]


def test_a_page_that_is_unknown_has_no_message(site, sockets):
    assert message(site, "p9") is False


def test_what_is_sent_to_one_page_is_dropped_by_its_path(site, sockets, open_page):
    open_page(site)
    site.setInClientData("gone.a", 1, page_id="p1")
    sockets.setInClientData("p1", path="gone.b", value=2)
    site.set_datachange("p1", "kept", 3)
    site.drop_datachanges("p1", "gone")
    assert [path for path, *_ in sent(site)] == ["kept"]
