"""What makes Genropy load the shadow: its own modules as they are, with another class for the register of a site.

Owns: this exchange, at the import of the package. Never: the class (`shadow`).

This runs while Genropy imports `gnr.web.daemon`, which is not yet this package. So both modules below that name are
those of the framework here, and stay so: a later import finds them loaded. The other modules are found in its folder.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from .shadow import ShadowClient


def exchange(package: ModuleType) -> None:
    """Makes the sites of this process ask both registers. `package` is going to be `gnr.web.daemon`."""
    importlib.import_module("gnr.web.daemon.siteregister")
    framework: Any = importlib.import_module("gnr.web.daemon.siteregister_client")
    client = framework.SiteRegisterClient

    class SiteRegisterClient(ShadowClient):
        """The register of a site, with the framework's client of gnrdaemon as the first one."""

        def __init__(self, site: Any) -> None:
            super().__init__(site, client(site))

    framework.SiteRegisterClient = SiteRegisterClient
    package.__path__.insert(0, str(Path(framework.__file__).parent))
