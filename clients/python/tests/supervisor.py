"""A supervisor for tests: it speaks docs/child.md over a real Unix socket to a real child process.

Owns: one child, its frames, and answers to its requests from functions of the test.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

TESTS = Path(__file__).parent
PATIENCE = 20
LINGER = 2
PAGE = "p|p01"


class Supervisor:
    """Starts `python -m pagewire TARGET` and keeps every message that the child sends."""

    def __init__(self, folder, target, slots=8, max_frame=1 << 20, environment=None, command=None):
        self.path = str(folder / "child.sock")
        self.token = "secret-of-this-child"
        self.answers = {}
        self.messages = []
        self.changed = threading.Condition()
        self.closed = False
        self.reading = threading.Event()
        self.reading.set()
        self.ids = iter(range(1, 1 << 53))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.path)
        listener.listen(1)
        listener.settimeout(PATIENCE)
        variables = dict(os.environ, PAGEWIRE_SOCKET=self.path, PAGEWIRE_TOKEN=self.token, **(environment or {}))
        self.process = subprocess.Popen(
            command or [sys.executable, "-m", "pagewire", target],
            cwd=TESTS / "apps",
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.sock, _ = listener.accept()
        listener.close()
        self.sock.settimeout(PATIENCE)
        self.ready = read_frame(self.sock)
        self.sock.settimeout(None)
        self.send(
            {
                "t": "welcome",
                "protocol": 1,
                "worker": "w1",
                "pool": "default",
                "lane": "stable",
                "release": "r1",
                "max_frame": max_frame,
                "heartbeat_ms": 5000,
                "drain_ms": 30000,
                "slots": self.ready.get("slots", slots),
            }
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while True:
            self.reading.wait()
            try:
                message = read_frame(self.sock)
            except (EOFError, OSError):
                with self.changed:
                    self.closed = True
                    self.changed.notify_all()
                return
            # before the answer, after which a test may look for it
            with self.changed:
                self.messages.append(message)
                self.changed.notify_all()
            if message["t"] == "request" and message["method"] in self.answers:
                self.reply(message, self.answers[message["method"]])

    def reply(self, request, answer):
        value = answer(request["params"]) if callable(answer) else answer
        if value is NO_ANSWER:
            return
        part = (
            {"error": value}
            if isinstance(value, dict) and set(value) == {"code", "message", "retryable"}
            else {"value": value}
        )
        self.send({"t": "reply", "id": request["id"], **part})

    def send(self, *messages):
        self.sock.sendall(b"".join(pack(message) for message in messages))

    def begin(self, method, params=None, kind="call", **members):
        """Sends a call or job. Returns its id."""
        number = next(self.ids)
        times = (
            {
                "job": "5Jb0000000000000000000",
                "attempt": 1,
                "left": 2,
                "timeout_ms": 30000,
            }
            if kind == "job"
            else {"deadline_ms": 30000}
        )
        self.send({"t": kind, "id": number, "method": method, "params": params, **times, **members})
        return number

    def running(self, method, params=None, **members):
        """Begins work of a handler that reports its progress first, and waits until it runs. Returns its id."""
        number = self.begin(method, params, **members)
        self.wait(lambda message: message["t"] == "progress" and message["id"] == number)
        return number

    def call(self, method, params=None, **members):
        """Runs a call or job and returns its end."""
        return self.end(self.begin(method, params, **members))

    def rpc(self, method, params=None, page=PAGE, page_class="Counter", **members):
        """Runs a method of a resident page and returns its end."""
        return self.end(self.begin_rpc(method, params, page, page_class, **members))

    def begin_rpc(self, method, params=None, page=PAGE, page_class="Counter", **members):
        """Sends a call of a method of a resident page. Returns its id."""
        return self.begin(method, params, kind="rpc", page=page, **{"class": page_class}, **members)

    def tell(self, event, page=PAGE, page_class="Counter", **members):
        """Tells what happens to a resident page and returns the end of the message."""
        return self.end(self.begin_telling(event, page, page_class, **members))

    def begin_telling(self, event, page=PAGE, page_class="Counter", **members):
        """Tells what happens to a resident page. Returns the id of the message."""
        number = next(self.ids)
        about = {"event": event, "class": page_class, "page": page, "deadline_ms": 30000}
        self.send({"t": "page", "id": number, **about, **members})
        return number

    def end(self, number):
        """Waits for the end of a piece of work."""
        ends = ("result", "error", "stopped", "snooze")
        return self.wait(lambda message: message["t"] in ends and message["id"] == number)

    def request(self, method):
        """Waits for a request of the child."""
        return self.wait(lambda message: message["t"] == "request" and message["method"] == method)

    def wait(self, wanted):
        """Waits for the first message that fits."""
        found = []

        def arrived():
            found[:] = [message for message in self.messages if wanted(message)][:1]
            return found or self.closed

        with self.changed:
            in_time = self.changed.wait_for(arrived, PATIENCE)
        assert found, (
            f"{'the child has ended' if in_time else 'nothing came in time'}: {self.messages[-5:]} {self.output()}"
        )
        return found[0]

    def of(self, kind):
        with self.changed:
            return [message for message in self.messages if message["t"] == kind]

    def exit(self):
        """Waits for the end of the process. Returns its exit code."""
        return self.process.wait(PATIENCE)

    def output(self):
        """Returns what an ended process has written."""
        if self.process.poll() is None:
            return ""
        return "".join(rest_of(stream) for stream in (self.process.stdout, self.process.stderr))

    def unread(self):
        """Returns how many bytes have arrived that were not read."""
        count = bytearray(4)
        fcntl.ioctl(self.sock, termios.FIONREAD, count)
        return int.from_bytes(count, sys.byteorder)

    def stop(self):
        self.reading.set()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.sock.close()
        self.process.stdout.close()
        self.process.stderr.close()


NO_ANSWER = object()


def rest_of(stream):
    """Returns what can be read from a stream. It may have no end, because another process holds it open."""
    end, parts = time.monotonic() + LINGER, []
    while select.select([stream], [], [], max(0, end - time.monotonic()))[0]:
        part = os.read(stream.fileno(), 1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode(errors="replace")


def pack(message):
    body = json.dumps(message, ensure_ascii=False).encode()
    return len(body).to_bytes(4, "big") + body


def read_frame(sock):
    body = receive(sock, int.from_bytes(receive(sock, 4), "big"))
    return json.loads(body)


def receive(sock, count):
    data = bytearray()
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
