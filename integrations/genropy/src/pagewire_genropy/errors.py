"""The exceptions of the provider.

Owns: those that Genropy catches by name, and the explanation when there is no Pagewire. Never: errors of a request to
Pagewire, which are `pagewire.Error`.
"""

from __future__ import annotations


class GnrDaemonException(Exception):
    """The base class that Genropy knows."""


class GnrDaemonLocked(GnrDaemonException):
    """A store has been locked by another thread for 10 s. The login of Genropy catches it."""


class NotBelowPagewire(GnrDaemonException):
    """This process was not started by Pagewire and does not know its address, so there is no register."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}. The register of this site is kept by Pagewire: start the site with `pagewire serve`, and a "
            "program beside it, such as a task worker, with PAGEWIRE_URL and PAGEWIRE_API_KEY; or take "
            "pagewire_genropy out of PYTHONPATH everywhere and start gnrdaemon (docs/genropy.md)"
        )


class NoDaemon(GnrDaemonException):
    """Something was asked of gnrdaemon, which does not exist where Pagewire keeps the register."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} needs gnrdaemon, but Pagewire keeps the register of this site")


class NotOverSockets(GnrDaemonException):
    """A command for the socket of a page that has no form as a change of its data."""

    def __init__(self, command: str | None) -> None:
        super().__init__(f"Pagewire sends no {command!r} to pages: they receive changes of data and publications")
