"""Fixtures of the tests of the child."""

import pytest

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
