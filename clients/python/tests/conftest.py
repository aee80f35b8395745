"""Fixtures of the tests of the child."""

import importlib.util
import sys

import pytest

from sites import ASGI, WSGI, Site
from supervisor import Supervisor

LOOPS = {"blocking": "work:sync", "threads": "work:threads", "asyncio": "work:mixed"}
RESIDENT = {"blocking": "resident:sync", "threads": "resident:threads", "asyncio": "resident:mixed"}


@pytest.fixture
def start(tmp_path):
    """Starts children and stops them after the test."""
    running = []

    def begin(target, **options):
        folder = tmp_path / str(len(running))
        folder.mkdir()
        running.append(Supervisor(folder, target, **options))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


@pytest.fixture(params=LOOPS)
def child(request, start):
    """A child in each style of loop."""
    return start(LOOPS[request.param])


@pytest.fixture
def parallel(start):
    """A child that runs sync handlers beside each other."""
    return start(LOOPS["threads"])


@pytest.fixture(params=RESIDENT)
def resident(request, start):
    """A child with resident pages in each style of loop."""
    return start(RESIDENT[request.param])


@pytest.fixture
def serve(start, tmp_path):
    """Starts children that serve an application."""

    def begin(kind, server, target, *arguments, **variables):
        if importlib.util.find_spec(server) is None:
            pytest.skip(f"{server} is not installed: tests/run.py does it")
        path = str(tmp_path / "site.http")
        command = [sys.executable, "-m", f"pagewire.{kind}", target, "--server", server, *arguments]
        environment = {"PAGEWIRE_HTTP_SOCKET": path, **variables}
        return Site(start(target, command=command, environment=environment), path)

    return begin


@pytest.fixture(params=WSGI)
def wsgi(request, serve):
    """Starts a WSGI application on each server."""
    return lambda target, *arguments, **variables: serve("wsgi", request.param, target, *arguments, **variables)


@pytest.fixture(params=ASGI)
def asgi(request, serve):
    """Starts an ASGI application on each server."""
    return lambda target, *arguments, **variables: serve("asgi", request.param, target, *arguments, **variables)
