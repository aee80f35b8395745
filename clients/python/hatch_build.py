"""The build hook of the wheel: it puts the program `pagewire` into it.

Owns: the program and the platform tag. Never: how the program is built (`cargo build --release`).

With `PAGEWIRE_BINARY=target/release/pagewire` the wheel has that program as its script, and the tag of its platform; a
relative path begins at the root of the clone. Without it the wheel has the Python package alone.
`PAGEWIRE_WHEEL_PLATFORM` names another platform than this one, for a program that was built for it.
"""

from __future__ import annotations

import os
import platform
import re
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_GLIBC = re.compile(rb"GLIBC_(\d+)\.(\d+)")


class PagewireBuildHook(BuildHookInterface):
    """Adds the program to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        named = os.environ.get("PAGEWIRE_BINARY")
        if self.target_name != "wheel" or version == "editable" or not named:
            return
        # the builder runs in the folder of the package
        binary = Path(self.root).parents[1] / named
        if not binary.is_file():
            raise FileNotFoundError(f"PAGEWIRE_BINARY names no file: {binary}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{os.environ.get('PAGEWIRE_WHEEL_PLATFORM') or platform_tag(binary)}"
        build_data["shared_scripts"][str(binary)] = "pagewire"


def platform_tag(binary: Path) -> str:
    """Returns the platform of a program of this machine: with glibc, the oldest version that it runs with."""
    versions = [tuple(map(int, version)) for version in _GLIBC.findall(binary.read_bytes())]
    if platform.system() == "Linux" and versions:
        major, minor = max(versions)
        return f"manylinux_{major}_{minor}_{platform.machine()}"
    return re.sub(r"[-.]", "_", sysconfig.get_platform())
