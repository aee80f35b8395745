"""The register of a Genropy site, kept by Pagewire in the place of gnrdaemon.

Genropy loads this package as `gnr.web.daemon`, because of the entry point `daemon` of the group `gnr.web`. The modules
`siteregister_client`, `siteregister`, `handler`, `service` and `processes` have the names that Genropy imports.

With `register = "shadow:genropy"` the daemon goes on to answer, and both registers are compared (`shadow`).

Owns: the provider. Never: a change of Genropy or of the site.
"""

import os
import sys

__version__ = "0.1.0"

if os.environ.get("PAGEWIRE_REGISTER") == "shadow:genropy":
    from .shadow_provider import exchange

    exchange(sys.modules[__name__])
