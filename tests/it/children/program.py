"""A child of the tests, without an SDK: it speaks docs/child.md with the standard library only, and misbehaves on request.

Its arguments change what it is: `--version V` is what the handler `version` returns, `--never-ready` connects and says
nothing, `--exit-at-start` ends at once, `--ignore-term` ignores SIGTERM, `--only NAME…` leaves out other handlers.
"""

import argparse
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--version", default="1")
arguments.add_argument("--never-ready", action="store_true")
arguments.add_argument("--exit-at-start", action="store_true")
arguments.add_argument("--ignore-term", action="store_true")
arguments.add_argument("--start-file", default="")
arguments.add_argument("--only", nargs="*", default=[])
options = arguments.parse_args()

cancelled = set()
kept = []


class Child:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(os.environ["PAGEWIRE_SOCKET"])
        self.reader = self.socket.makefile("rb")
        self.lock = threading.Lock()
        self.replies = {}
        self.arrived = threading.Condition()
        self.requests = 0

    def send(self, message):
        body = json.dumps(message).encode()
        with self.lock:
            self.socket.sendall(struct.pack(">I", len(body)) + body)

    def receive(self):
        prefix = self.reader.read(4)
        if len(prefix) < 4:
            return None
        return json.loads(self.reader.read(struct.unpack(">I", prefix)[0]))

    def request(self, work, method, params):
        with self.arrived:
            self.requests += 1
            number = self.requests
        named = {} if work is None else {"work": work}
        self.send({"t": "request", "id": number, **named, "method": method, "params": params})
        with self.arrived:
            self.arrived.wait_for(lambda: number in self.replies)
            return self.replies.pop(number)


child = Child()


def echo(message):
    return message["params"]


def version(message):
    return options.version


def who(message):
    return {"pid": os.getpid(), "user": message.get("user"), "page": message.get("page")}


def sleep(message):
    """Sleeps `ms` milliseconds, with progress, until it is cancelled."""
    wanted = message["params"]["ms"] / 1000
    end = time.monotonic() + wanted
    while (left := end - time.monotonic()) > 0:
        if message["id"] in cancelled:
            return Stopped
        child.send({"t": "progress", "id": message["id"], "progress": 1 - left / wanted})
        time.sleep(min(0.05, left))
    return os.getpid()


def hang(message):
    """Does not stop when it is cancelled."""
    while True:
        time.sleep(1)


def freeze(message):
    """Stops the whole process."""
    os.kill(os.getpid(), signal.SIGSTOP)
    # another thread may take the signal, and this one runs on for a moment
    time.sleep(0.2)
    return "continued"


def end(message):
    """Ends the process, without an answer."""
    os._exit(message["params"] or 0)


def kill(message):
    os.kill(os.getpid(), signal.SIGKILL)


def garbage(message):
    with child.lock:
        child.socket.sendall(b"\x00\x00\x00\x07not json")


def half(message):
    """Ends within a frame."""
    with child.lock:
        child.socket.sendall(struct.pack(">I", 100) + b'{"t":')
    os._exit(0)


def twice(message):
    child.send({"t": "result", "id": message["id"], "value": 1})
    return 2


def fork(message):
    """Starts processes that would outlive it, one of them in a session of its own."""
    own = subprocess.Popen(["sleep", "600"], start_new_session=True)
    group = subprocess.Popen(["sleep", "600"])
    return [own.pid, group.pid]


def leak(message):
    kept.append(bytearray(os.urandom(1 << 20)) * message["params"])
    return os.getpid()


def fail(message):
    return Failure({"code": "broken", "message": "it is broken", "retryable": message["params"] is True})


def snooze(message):
    """Is put off until it has been called twice."""
    path = message["params"]["file"]
    with open(path, "a") as file:
        file.write(f"{message['attempt']}\n")
    if len(open(path).readlines()) < 3:
        child.send({"t": "snooze", "id": message["id"], "after_ms": 100})
        return Nothing
    return message["attempt"]


def environment(message):
    return sorted(name for name in os.environ if name.startswith("PAGEWIRE_"))


def ask(message):
    """Makes the request of its parameters and returns the reply."""
    params = message["params"]
    work = None if params.get("without_work") else message["id"]
    reply = child.request(work, params["method"], params["params"])
    return reply.get("value", reply.get("error"))


class Stopped:
    pass


class Nothing:
    pass


class Failure:
    def __init__(self, error):
        self.error = error


HANDLERS = {
    f.__name__: f
    for f in [
        echo, version, who, sleep, hang, freeze, end, kill, garbage, half, twice, fork, leak, fail, snooze, environment,
        ask,
    ]
}
METHODS = {"hang": {"timeout_ms": 300}, "who": {"serial": "user"}}


def run(message):
    value = HANDLERS[message["method"]](message)
    if value is Stopped:
        child.send({"t": "stopped", "id": message["id"]})
    elif isinstance(value, Failure):
        child.send({"t": "error", "id": message["id"], **value.error})
    elif value is not Nothing:
        child.send({"t": "result", "id": message["id"], "value": value})


def main():
    if options.start_file:
        with open(options.start_file, "a") as file:
            file.write(f"{os.getpid()}\n")
    if options.exit_at_start:
        print("Traceback: the application does not import", file=sys.stderr)
        sys.exit(1)
    if options.never_ready:
        time.sleep(600)
    if options.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    names = options.only or list(HANDLERS)
    methods = [{"name": name, **METHODS.get(name, {})} for name in names]
    child.send({
        "t": "ready", "protocol": [1], "token": os.environ["PAGEWIRE_TOKEN"], "pid": os.getpid(), "sdk": "tests 1",
        "methods": methods,
    })
    print("ready", flush=True)
    draining = False
    while message := child.receive():
        kind = message["t"]
        if kind in ("call", "job"):
            threading.Thread(target=run, args=(message,), daemon=True).start()
        elif kind == "cancel":
            cancelled.add(message["id"])
        elif kind == "reply":
            with child.arrived:
                child.replies[message["id"]] = message
                child.arrived.notify_all()
        elif kind == "ping":
            child.send({"t": "pong"})
        elif kind == "drain":
            draining = True
            threading.Thread(target=leave, daemon=True).start()


def leave():
    """Exits when all work has ended."""
    while threading.active_count() > 2:
        time.sleep(0.01)
    os._exit(0)


main()
