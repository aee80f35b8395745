"""The pytest plugin of the package: a real server for tests.

Owns: the fixtures `pagewire_app` and `pagewire_server`. Never: the server (`testing.server`), which is imported only by
tests that use it, because pytest imports this module in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator

import pytest

if TYPE_CHECKING:
    from .testing.server import Server


def pytest_addoption(parser: Any) -> None:
    parser.addini("pagewire_app", "the application of pagewire_server: module:attribute", default="app:app")


@pytest.fixture(scope="session")
def pagewire_app(request: Any) -> str:
    """The application of `pagewire_server`, as `module:attribute`: the setting `pagewire_app`, by default `app:app`."""
    return str(request.config.getini("pagewire_app"))


@pytest.fixture(scope="session")
def pagewire_server(request: Any, tmp_path_factory: Any, pagewire_app: str) -> Iterator[Server]:
    """A node with the application as its pool. Skips the test if there is no program `pagewire`."""
    from .testing.server import Server, find_binary

    binary = find_binary()
    if binary is None:
        pytest.skip("the program `pagewire` is neither in PATH nor named by PAGEWIRE_BINARY")
    with Server(binary, pagewire_app, tmp_path_factory.mktemp("pagewire"), request.config.rootpath) as server:
        yield server
