"""The conformance cases of the wire (`pagewire child check`), in each style of loop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pagewire.testing.server import find_binary

BINARY = find_binary()
APPS = Path(__file__).parent / "apps"


def check(*arguments):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PAGEWIRE_")}
    command = [BINARY, "child", "check", *arguments]
    return subprocess.run(command, cwd=APPS, env=variables, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("style", ["blocking", "threads", "mixed"])
@pytest.mark.skipif(BINARY is None, reason="there is no program `pagewire` (PAGEWIRE_BINARY)")
def test_the_package_keeps_every_rule_of_the_wire(style):
    if check("--help").returncode != 0:
        pytest.skip("this program `pagewire` has no conformance cases")
    done = check("--json", "--", sys.executable, "-m", "pagewire", f"conformance:{style}")
    assert done.returncode == 0, done.stderr
    skipped = [case["name"] for case in json.loads(done.stdout)["cases"] if case["result"] == "skipped"]
    assert skipped == (["replies_may_come_in_any_order"] if style == "blocking" else [])
