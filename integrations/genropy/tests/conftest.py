"""What the tests of the provider share: the register's double, and processes of a site that use it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest

_HERE = Path(__file__).parent
for _folder in (_HERE, _HERE.parent / "src", _HERE.parents[2] / "clients/python/src"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

import daemon  # noqa: E402
import double  # noqa: E402
from pagewire_genropy import siteregister_client  # noqa: E402


class Site:
    """What the provider reads of a site. `begin` is the begin of a request of HTTP in this thread."""

    currentDomainIdentifier = "shop"
    custom_config = SimpleNamespace(getAttr=lambda name: None)

    def __init__(self) -> None:
        self.currentRequest: Any = None

    def begin(self, page: str | None = None, cookie: str = "", path: str = "/") -> None:
        cookies, args = {"shop": cookie} if cookie else {}, {"page_id": page} if page else {}
        self.currentRequest = SimpleNamespace(args=args, form={}, cookies=cookies, path=path)

    def end(self) -> None:
        self.currentRequest = None


@pytest.fixture
def register() -> double.Register:
    return double.Register()


@pytest.fixture
def process(register: double.Register, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes processes of the site."""
    monkeypatch.setattr(siteregister_client, "connect", lambda: register)
    return lambda: siteregister_client.SiteRegisterClient(Site())


@pytest.fixture
def site(process: Callable[[], Any]) -> Any:
    return process()


@pytest.fixture
def open_page() -> Callable[..., str]:
    """Opens a page, and its connection if it is new."""

    def open(site: Any, page: str = "p1", connection: str = "c1", user: str | None = None, **data: Any) -> str:
        from gnr.core.gnrbag import Bag

        user = user or f"guest_{connection}"
        if not site.exists(connection, register_name="connection"):
            names = ("user_id", "user_tags", "browser_name", "user_agent", "electron_static", "avatar_extra")
            values = dict.fromkeys(names)
            site.new_connection(connection, SimpleNamespace(connection_name="1_x", user=user, ip="1.2.3.4", **values))
        request = SimpleNamespace(path_info="/")
        opened = SimpleNamespace(
            pagename="index", connection_id=connection, user=user, user_ip="1.2.3.4", user_agent="x", request=request
        )
        content = Bag()
        for name, value in data.items():
            content[name] = value
        site.new_page(page, opened, content)
        return page

    return open


class DaemonSite(Site):
    """A site with the configuration of a daemon."""

    site_path = "/nowhere"
    config = SimpleNamespace(getAttr=lambda name: {"host": "localhost", "port": 1, "hmac_key": ""})


@pytest.fixture
def gnrdaemon() -> daemon.Daemon:
    daemon.loaded()
    return daemon.Daemon()


@pytest.fixture
def before(gnrdaemon: daemon.Daemon) -> Any:
    """The site with its daemon alone."""
    return gnrdaemon.client(DaemonSite())


@pytest.fixture
def shadow(gnrdaemon: daemon.Daemon, register: double.Register, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes processes of the site in the shadow."""
    monkeypatch.setattr(siteregister_client, "connect", lambda: register)

    def start() -> Any:
        from pagewire_genropy.shadow import ShadowClient

        site = DaemonSite()
        return ShadowClient(site, gnrdaemon.client(site))

    return start


@pytest.fixture
def both(shadow: Callable[[], Any]) -> Any:
    return shadow()
