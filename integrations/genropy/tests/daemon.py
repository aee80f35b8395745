"""gnrdaemon in the process of a test: the framework's own register and its own client, without a network.

Owns: what stands in for Pyro4 and for the module of pages. Never: what the daemon answers, which is code of Genropy.
"""

from __future__ import annotations

import ast
import datetime
import importlib
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gnr.web

FRAMEWORK = Path(gnr.web.__file__).parent
OBJECTS: dict[str, Any] = {}
"""The objects of the daemon by their addresses."""


class Proxy:
    """Calls an object of the daemon with copies, and returns a copy."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and not name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self._call(name, args, kwargs)

    def __getitem__(self, path: Any) -> Any:
        raise AssertionError("the client of the framework names its methods")

    def _call(self, name: str, args: Any, kwargs: Any) -> Any:
        args, kwargs = pickle.loads(pickle.dumps((args, kwargs)))
        return pickle.loads(pickle.dumps(getattr(OBJECTS[self._uri], name)(*args, **kwargs)))


def _with_dunders(proxy: type) -> type:
    for name in ("__getitem__", "__setitem__", "__len__", "__contains__", "__eq__"):
        setattr(proxy, name, lambda self, *args, _name=name, **kwargs: self._call(_name, args, kwargs))
    return proxy


def modules() -> dict[str, ModuleType]:
    """Returns what stands in for modules that are not installed, and the package of the framework's daemon."""
    pyro, pages, package = ModuleType("Pyro4"), ModuleType("gnr.web.gnrwebpage"), ModuleType("gnr.web.daemon")
    pyro.Proxy = _with_dunders(Proxy)
    pyro.config, pyro.errors = SimpleNamespace(), SimpleNamespace(CommunicationError=OSError)
    pages.ClientDataChange = _class_of_changes(pages)
    package.__path__ = [str(FRAMEWORK / "daemon")]
    return {"Pyro4": pyro, "gnr.web.gnrwebpage": pages, "gnr.web.daemon": package}


def _class_of_changes(module: ModuleType) -> type:
    """Returns `ClientDataChange` of Genropy, whose module needs all of the framework."""
    source = ast.parse((FRAMEWORK / "gnrwebpage.py").read_text())
    (found,) = [one for one in source.body if isinstance(one, ast.ClassDef) and one.name == "ClientDataChange"]
    vars(module).update(datetime=datetime)
    exec(compile(ast.Module([found], []), "gnrwebpage.py", "exec"), vars(module))
    return vars(module)["ClientDataChange"]


class Daemon:
    """A run of gnrdaemon with one site. `client` makes what the framework calls the register of the site."""

    def __init__(self) -> None:
        own = importlib.import_module("gnr.web.daemon.siteregister")
        server = SimpleNamespace(gnr_daemon_uri=None, daemon=SimpleNamespace(register=self._register))
        OBJECTS.clear()
        self.register = own.SiteRegister(server, sitename="shop")
        self._register(self.register, "SiteRegister")
        OBJECTS["PYRO:GnrDaemon@localhost:1"] = self

    @staticmethod
    def _register(found: Any, name: str) -> None:
        OBJECTS[f"PYRO:{name}@localhost:2"] = found

    def ping(self) -> str:
        return "ping"

    def getSite(self, *_: Any, **__: Any) -> dict[str, str]:
        return {"server_uri": "PYRO:SiteRegisterServer@localhost:2", "register_uri": "PYRO:SiteRegister@localhost:2"}

    @staticmethod
    def client(site: Any) -> Any:
        return importlib.import_module("gnr.web.daemon.siteregister_client").SiteRegisterClient(site)


def loaded() -> None:
    """Makes the modules of the framework's daemon importable in this process, below their own names."""
    if "Pyro4" not in sys.modules:
        sys.modules.update(modules())
