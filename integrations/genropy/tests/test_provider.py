"""The package as Genropy loads it, and what it says where Pagewire or the daemon is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from pagewire_genropy import commands, keys
from pagewire_genropy.errors import NoDaemon
from pagewire_genropy.filters import conditions, prefixes

SOURCE = Path(__file__).parents[1] / "src"

NAMES = {
    "siteregister_client": (
        "SiteRegisterClient",
        "ServerStore",
        "RemoteStoreBag",
        "RegisterResolver",
        "GnrDaemonLocked",
    ),
    "siteregister": ("DEFAULT_PAGE_MAX_AGE", "GnrDaemonException", "GnrDaemonLocked", "SiteRegister", "PYRO_HOST"),
    "handler": ("GnrDaemon", "GnrDaemonProxy"),
    "service": ("DaemonService",),
    "processes": ("GnrCronHandler", "GnrWorkerPool", "GnrDaemonServiceManager"),
}

VERBS = """get_item page connection user new_connection new_page change_connection_user drop_page drop_connection pages
connections users exists refresh handle_ping subscription_storechanges setStoreSubscription subscribeTable
filter_subscribed_tables notifyDbEvents setInClientData set_datachange drop_datachanges reset_datachanges subscribe_path
set_serverstore_changes setPendingContext get_dbenv lock_item unlock_item claim_cleanup expire_pages expire_connection
setConfiguration pendingProcessCommands sendProcessCommand on_reloader_restart on_site_stop dump load counters
pageStore connectionStore userStore globalStore""".split()


@pytest.mark.parametrize("module", NAMES)
def test_the_modules_have_the_names_that_genropy_imports(module):
    found = importlib.import_module(f"pagewire_genropy.{module}")
    for name in NAMES[module]:
        assert hasattr(found, name)


def test_the_register_of_a_site_has_all_verbs(site):
    for verb in VERBS:
        assert callable(getattr(site, verb)), verb
    with pytest.raises(AttributeError):
        site.no_verb()
    assert site.counters() == {"users": 0, "connections": 0, "pages": 0}


def test_the_folder_alone_makes_genropy_load_the_provider():
    (info,) = SOURCE.glob("*.dist-info")
    (entry,) = PathDistribution(info).entry_points
    assert (entry.group, entry.name, entry.value) == ("gnr.web", "daemon", "pagewire_genropy")


def test_a_process_that_pagewire_has_not_started_is_told_how_to_run():
    script = "from pagewire_genropy.channel import connect; connect()"
    folders = [str(SOURCE), str(SOURCE.parents[2] / "clients/python/src"), *sys.path]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path[:0] = {folders!r}; {script}"],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode != 0
        and "no way to Pagewire" in done.stderr
        and "PAGEWIRE_URL" in done.stderr
        and "docs/genropy.md" in done.stderr
    )


def test_what_needs_the_daemon_says_so(site):
    from pagewire_genropy.handler import GnrDaemonProxy
    from pagewire_genropy.service import DaemonService

    with pytest.raises(NoDaemon, match="needs gnrdaemon"):
        GnrDaemonProxy(use_environment=True)
    with pytest.raises(NoDaemon):
        site.gnrdaemon_proxy  # noqa: B018
    with pytest.raises(SystemExit, match="Pagewire keeps the register"):
        DaemonService({}).run()


def test_a_command_reaches_every_process_once(site, process):
    other, third = process(), process()
    assert other.pendingProcessCommands() == [] and third.pendingProcessCommands() == []
    site.sendProcessCommand(("clearApplicationCache", {"key": "a"}))
    for own in (site, other, third):
        assert own.pendingProcessCommands() == [("clearApplicationCache", {"key": "a"})]
        assert own.pendingProcessCommands() == []


def test_a_command_for_one_process_reaches_only_that_one(site, process, monkeypatch):
    other = process()
    other.pendingProcessCommands()
    site.sendProcessCommand(("x", None), pid=1)
    assert other.pendingProcessCommands() == []
    site.sendProcessCommand(("y", None), pid=1)
    monkeypatch.setattr(commands.os, "getpid", lambda: 1)
    assert other.pendingProcessCommands() == [("y", None)]


def test_the_name_of_a_register_is_that_of_the_site_where_it_can_be():
    assert keys.register_name("shop") == "shop"
    first, second = keys.register_name("shop|a"), keys.register_name("shop_a")
    assert first != second and first.startswith("shop-a-") and len(keys.register_name("x" * 99)) == 32


def test_the_register_leaves_out_only_pages_that_cannot_match():
    assert prefixes(conditions("user:ada AND connection_id:c.*")) == {"user": "ada", "connection": "c"}
    assert prefixes(conditions("user:james.wilson")) == {"user": "james"}
    assert prefixes(conditions("user:ada? AND pagename:a|b AND unknown:x")) == {"user": "ad"}
    assert prefixes(conditions(r"user:(ada) AND pagename:\d")) == {}
    with pytest.raises(ValueError, match="without `:`"):
        conditions("user")
