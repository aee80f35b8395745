"""The register of a Genropy site, kept by Pagewire in the place of gnrdaemon.

Genropy loads this package as `gnr.web.daemon`, because of the entry point `daemon` of the group `gnr.web`. The modules
`siteregister_client`, `siteregister`, `handler`, `service` and `processes` have the names that Genropy imports.

Owns: the provider. Never: a change of Genropy or of the site.
"""

__version__ = "0.1.0"
