"""A child that keeps every rule of docs/child.md, with the standard library only, and has the handlers of `child check`.

`--broken FAULT` makes it break one rule: see FAULTS.
"""

import argparse
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

LIMIT = 1 << 20
# the id of a call among many
LOST = 5000
FAULTS = [
    "answers_jobs_twice", "loses_a_call", "ignores_drain", "dies_on_split_frames", "knows_no_unsupported",
    "names_another_process", "stays_without_its_supervisor", "has_a_limit_of_64_kb", "asks_for_other_work",
    "inherits_its_socket", "ignores_the_type_of_parameters", "never_stops",
]

arguments = argparse.ArgumentParser()
arguments.add_argument("--broken", choices=FAULTS)
broken = arguments.parse_args().broken


class BrokenFrame(Exception):
    """The supervisor breaks the rules of frames."""


class Failed(Exception):
    """The handler fails with the members of an error."""

    def __init__(self, code, message, retryable=False, after_ms=None):
        super().__init__(message)
        self.members = {"code": code, "message": message, "retryable": retryable}
        if after_ms is not None:
            self.members["after_ms"] = after_ms


class Stopped(Exception):
    """The work has stopped because of a cancel."""


class Snoozed(Exception):
    """The work is put off."""

    def __init__(self, after_ms):
        super().__init__(after_ms)
        self.after_ms = after_ms


class Work:
    """A call or job that runs."""

    def __init__(self, child, message):
        self.child = child
        self.message = message
        self.id = message["id"]
        self.cancelled = threading.Event()
        self.replies = queue.Queue()

    def check(self):
        if self.cancelled.is_set() and broken != "never_stops":
            raise Stopped

    def progress(self, progress):
        self.child.send({"t": "progress", "id": self.id, "progress": progress})

    def request(self, method, params):
        number = self.child.asked(self)
        work = self.id + 1 if broken == "asks_for_other_work" else self.id
        self.child.send({"t": "request", "id": number, "work": work, "method": method, "params": params})
        reply = self.replies.get()
        self.check()
        return reply


class Child:
    """The child's side of the socket."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(os.environ["PAGEWIRE_SOCKET"])
        self.socket.set_inheritable(broken == "inherits_its_socket")
        self.lock = threading.Lock()
        self.writing = threading.Lock()
        self.works = {}
        self.requests = {}
        self.number = 0
        self.queue = queue.SimpleQueue()
        self.draining = False

    def send(self, message, times=1):
        """Sends a message, so often that nothing stands between."""
        body = json.dumps(message, allow_nan=False).encode()
        with self.writing:
            self.socket.sendall((struct.pack(">I", len(body)) + body) * times)

    def receive_exactly(self, count):
        data = bytearray()
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
            if broken == "dies_on_split_frames" and len(data) < min(count, 64):
                raise BrokenFrame
        return bytes(data)

    def receive(self):
        (length,) = struct.unpack(">I", self.receive_exactly(4))
        if length > (LIMIT if broken != "has_a_limit_of_64_kb" else 1 << 16):
            raise BrokenFrame
        try:
            message = json.loads(self.receive_exactly(length))
        except ValueError:
            raise BrokenFrame from None
        if not isinstance(message, dict) or not isinstance(message.get("t"), str):
            raise BrokenFrame
        return message

    def asked(self, work):
        with self.lock:
            self.number += 1
            self.requests[self.number] = work
            return self.number

    def take(self, message):
        kind, number = message["t"], message.get("id")
        if kind in ("call", "job"):
            work = Work(self, message)
            with self.lock:
                self.works[number] = work
            self.queue.put(work)
        elif kind == "cancel":
            with self.lock:
                work = self.works.get(number)
            if work:
                work.cancelled.set()
                work.replies.put({})
        elif kind == "reply":
            with self.lock:
                work = self.requests.pop(number, None)
            if work:
                work.replies.put(message)
        elif kind == "ping":
            self.send({"t": "pong"})
        elif kind == "drain":
            self.draining = True
            self.leave_if_idle()
        elif number is not None and kind != "welcome" and broken != "knows_no_unsupported":
            text = f"this child does not know the message {kind}"
            self.send({"t": "error", "id": number, "code": "unsupported", "message": text, "retryable": False})

    def leave_if_idle(self):
        with self.lock:
            idle = not self.works
        if self.draining and idle and broken != "ignores_drain":
            leave(0)

    def work(self):
        """Runs handlers, one after the other, in a thread."""
        while True:
            work = self.queue.get()
            try:
                end = outcome(work)
                if len(json.dumps(end)) > LIMIT:
                    text = "the result does not fit into a frame"
                    end = {"t": "error", "code": "too_large", "message": text, "retryable": False}
                if broken != "loses_a_call" or work.id != LOST:
                    twice = broken == "answers_jobs_twice" and work.message["t"] == "job"
                    self.send({**end, "id": work.id}, times=2 if twice else 1)
            except OSError:
                continue  # the supervisor is gone
            with self.lock:
                del self.works[work.id]
            self.leave_if_idle()


def outcome(work):
    """Runs a handler and returns the end of its work."""
    method = work.message["method"]
    try:
        work.check()
        handler = HANDLERS.get(method)
        if handler is None:
            raise Failed("no_executor", f"there is no handler {method!r}", True)
        params = work.message["params"]
        return {"t": "result", "value": handler(work, params if isinstance(params, dict) else {})}
    except Failed as failure:
        return {"t": "error", **failure.members}
    except Stopped:
        return {"t": "stopped"}
    except Snoozed as snoozed:
        return {"t": "snooze", "after_ms": snoozed.after_ms}
    except Exception as error:
        return {"t": "error", "code": "failed", "message": repr(error), "retryable": True}


def echo(work, params):
    return params["value"]


def sleep(work, params):
    wanted = params["ms"] / 1000
    end = time.monotonic() + wanted
    while (left := end - time.monotonic()) > 0:
        work.progress(1 - left / wanted)
        work.cancelled.wait(min(0.05, left))
        work.check()
    return None


def fail(work, params):
    raise Failed(params["code"], params["message"], params["retryable"], params.get("after_ms"))


def big(work, params):
    return "x" * params["bytes"]


def ask(work, params):
    reply = work.request("call", {"method": params["method"], "params": params["params"]})
    return {name: reply[name] for name in ("value", "error") if name in reply}


def snooze(work, params):
    raise Snoozed(params["after_ms"])


def log(work, params):
    work.child.send({"t": "log", "level": params["level"], "message": params["message"], "work": work.id})


def typed(work, params):
    n = params.get("n")
    if (not isinstance(n, int) or isinstance(n, bool)) and broken != "ignores_the_type_of_parameters":
        raise Failed("malformed", "the parameter n is an integer")
    return n


def of_work(work, params):
    names = ("job", "attempt", "left", "user", "page", "session", "connection", "trace")
    return {name: work.message.get(name) for name in names}


def print_lines(work, params):
    for number in range(params["lines"]):
        print(number, file=sys.stdout if number % 2 else sys.stderr)


def spawn(work, params):
    return subprocess.Popen(["sleep", "60"], close_fds=broken != "inherits_its_socket").pid


HANDLERS = {
    "check.echo": echo, "check.sleep": sleep, "check.sleep_async": sleep, "check.fail": fail, "check.big": big,
    "check.ask": ask, "check.snooze": snooze, "check.log": log, "check.typed": typed, "check.work": of_work,
    "check.print": print_lines, "check.spawn": spawn,
}


def leave(code):
    """Ends the process at once, with what it has printed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    signal.signal(signal.SIGTERM, lambda *_: leave(0))
    child = Child()
    pid = 1 if broken == "names_another_process" else os.getpid()
    child.send({
        "t": "ready", "protocol": [1], "token": os.environ["PAGEWIRE_TOKEN"], "pid": pid, "sdk": "tests 1",
        "methods": [{"name": name} for name in HANDLERS],
    })
    try:
        welcome = child.receive()
        for _ in range(welcome["slots"]):
            threading.Thread(target=child.work, daemon=True).start()
        while True:
            child.take(child.receive())
    except (EOFError, OSError):
        if broken == "stays_without_its_supervisor":
            time.sleep(600)
        leave(1)
    except BrokenFrame:
        leave(1)


main()
