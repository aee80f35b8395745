"""Tests of handlers, in the process of the test: no binary, no sockets, and a clock that the test moves.

    harness = Harness(app)
    assert harness.call("add", [1, 2]) == 3

Owns: the public names for tests. Never: production code.
"""

from .harness import Harness
from .job import Job, Push
from .page import OpenPage

__all__ = ["Harness", "Job", "OpenPage", "Push"]
