"""A real node in a test.

Owns: the process `pagewire serve` with its configuration. Never: fixtures (`pytest_plugin`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from ..alone import find_program
from ..client import Client

_READY = re.compile(r"http://[0-9.]+:[0-9]+")
_PATIENCE = 60.0


def find_binary() -> str | None:
    """Returns the path of the program `pagewire`: that of PAGEWIRE_BINARY, of the wheel, or in PATH."""
    return find_program()


def configuration(app: str, slots: int = 8) -> str:
    """Returns the configuration of a node on a free port with one pool for an application."""
    command = ", ".join(json.dumps(part) for part in (sys.executable, "-m", "pagewire", app))
    pool = f'[[pool]]\nname = "default"\ncommand = [{command}]\nfree = 1\nassigned = 1\nslots = {slots}\n'
    return f'listen = "127.0.0.1:0"\nwelcome = false\n\n{pool}'


class Server:
    """A node with an application as its pool: `url` is its address, `client` a client of it, `log` its lines."""

    def __init__(self, binary: str, app: str, folder: Path, cwd: Path, config: str | None = None) -> None:
        self.url = ""
        self.log: list[str] = []
        self._said = threading.Condition()
        self._ended = False
        file = folder / "pagewire.toml"
        file.write_text(configuration(app) if config is None else config)
        self._process = subprocess.Popen(
            [binary, "serve", "--config", str(file)],
            cwd=cwd,
            # the configuration of the test alone decides
            env={name: value for name, value in os.environ.items() if not name.startswith("PAGEWIRE_")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.url = self._wait_for_url()
        except BaseException:
            self.stop()
            raise
        self.client = Client(self.url)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._said:
                self.log.append(line.rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def _wait_for_url(self) -> str:
        """Waits for the line of the log that has the address of the node."""
        found: list[str] = []

        def said() -> bool:
            lines = (line for line in self.log if "ready" in line)
            found.extend(match[0] for line in lines if (match := _READY.search(line)))
            return bool(found) or self._ended

        with self._said:
            self._said.wait_for(said, _PATIENCE)
        if not found:
            raise RuntimeError("the node has not become ready:\n" + "\n".join(self.log[-30:]))
        return found[0]

    def stop(self) -> None:
        """Ends the node. Its pool ends with it."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.client.close()
        self.stop()
