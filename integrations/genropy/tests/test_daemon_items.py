"""The move of users and connections between gnrdaemon and a register of Pagewire."""

from __future__ import annotations

import datetime
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from pagewire_genropy.listing import age

_FILE = Path(__file__).parents[1] / "daemon_items.py"


@pytest.fixture
def daemon_items():
    spec = importlib.util.spec_from_file_location("daemon_items", _FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Daemon:
    """What the script uses of the register of a site with gnrdaemon."""

    def __init__(self):
        self.created = {}

    def exists(self, id, register_name=None):
        return register_name == "connection" and id in self.created

    def new_connection(self, connection_id, **values):
        self.created[connection_id] = values


NOW = datetime.datetime.now()
USERS = {"ann": {"register_item_id": "ann", "user": "ann", "user_id": "u1", "user_tags": "admin", "start_ts": NOW}}
CONNECTIONS = {
    "c1": {"register_item_id": "c1", "user": "ann", "user_tags": "admin", "user_agent": "x" * 900, "start_ts": NOW}
}


def test_the_items_of_a_daemon_are_those_of_a_register(daemon_items, site, register):
    old = SimpleNamespace(users=lambda: USERS, connections=lambda: CONNECTIONS)
    lines = list(daemon_items.lines(old))
    assert [(line["level"], line["id"]) for line in lines] == [("user", "ann"), ("connection", "c1")]
    register.do_write([{**line, "create": "new"} for line in lines])
    connection = site.connection("c1")
    assert (connection["user"], connection["user_tags"], len(connection["user_agent"])) == ("ann", "admin", 600)
    assert site.user("ann")["user_id"] == "u1" and 0 <= age(connection) < 60
    assert [one["register_item_id"] for one in site.siteregister.connections("ann")] == ["c1"]


def test_the_items_of_a_register_are_created_in_a_daemon_once(daemon_items, site, open_page, register):
    open_page(site, connection="c1", user="ann")
    items = [{"level": level, "id": id, "fields": one["fields"]} for (level, id), one in register.items.items()]
    daemon = Daemon()
    assert daemon_items.fill(daemon, items) == (1, 0)
    assert daemon.created["c1"]["user"] == "ann" and daemon.created["c1"]["connection_name"] == "1_x"
    assert daemon_items.fill(daemon, items) == (0, 1)


def test_the_name_of_a_register_is_that_of_the_site_if_it_can_be_one(daemon_items):
    assert daemon_items.name_of("shop") == "shop" and daemon_items.name_of("my_shop").startswith("my-shop-")
