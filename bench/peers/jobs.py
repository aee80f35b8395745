"""Measures durable Python jobs of Pagewire beside Celery, RQ and Dramatiq, which run the same handlers.

    python -m venv peers && peers/bin/pip install celery rq dramatiq redis packaging
    PYTHONPATH=clients/python/src peers/bin/python bench/peers/jobs.py --pagewire target/release/pagewire

It starts everything by itself on the loopback interface (redis-server, nats-server, nodes and workers) and stops what
it has started. Systems take turns in each run. A system whose package or server is missing is named and left out.

- Rate: jobs that some threads of this process enqueue with the system's own client, one call for each job, until the
  last handler has run.
- CPU: all processes of the system with its server, and this process, divided by the jobs.
- Latency: from the call that enqueues a job until this process has its result, one job at a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WORK = """
import os, time
DONE = os.open(os.environ["BENCH_DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def noop(n):
    os.write(DONE, b".")
    return n
def pause(n):
    time.sleep(0.005)
    os.write(DONE, b".")
    return n
"""
CELERY = """
import os, work
from celery import Celery
app = Celery("celery_app", broker=os.environ["BENCH_REDIS"] + "/0", backend=os.environ["BENCH_REDIS"] + "/1")
app.conf.update(task_acks_late=True, result_expires=600, broker_connection_retry_on_startup=True)
noop, pause = app.task(name="noop")(work.noop), app.task(name="pause")(work.pause)
"""
DRAMATIQ = """
import os, dramatiq, work
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
broker = RedisBroker(url=os.environ["BENCH_REDIS"] + "/2")
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_REDIS"] + "/3")))
dramatiq.set_broker(broker)
noop = dramatiq.actor(work.noop, store_results=True)
pause = dramatiq.actor(work.pause, store_results=True)
"""
PAGEWIRE = """
import work
from pagewire import App
app = App()
@app.handler
def noop(ctx, n): return work.noop(n)
@app.handler
def pause(ctx, n): return work.pause(n)
"""
PATIENCE = 60.0
KEY = "bench-key-of-this-process-alone-0123456789"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(what: str, holds) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if holds():
                return
        except Exception as error:
            last = error
        else:
            last = None
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not get there in time: {last}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def cpu_of(pids: list[int]) -> float:
    """Returns the CPU seconds of processes and all of their descendants, with those of children that have ended."""
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(") ")[2].split()
            tasks = os.listdir(f"/proc/{entry}/task")
            exact = sum(int(Path(f"/proc/{entry}/task/{task}/schedstat").read_text().split()[0]) for task in tasks)
        except OSError:
            continue  # it has ended
        parents[int(entry)] = int(fields[1])
        used[int(entry)] = exact / 1e9 + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    total = 0.0
    for pid in used:
        above = pid
        while above in parents and above not in pids:
            above = parents[above]
        if above in pids:
            total += used[pid]
    return total


class System:
    """A system that runs jobs. Its processes live from `start` to `stop`."""

    name = ""
    needs: tuple[str, ...] = ()

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.done = folder / "done"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "BENCH_DONE": str(self.done)}
        paths = [str(folder), *map(os.path.abspath, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))]
        self.environment["PYTHONPATH"] = os.pathsep.join(paths)

    def run(self, *command: str | Path, **more: str) -> None:
        log = open(self.folder / "log", "ab")
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**self.environment, **more},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        self.processes.append(process)

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def cpu(self) -> float:
        return cpu_of([process.pid for process in self.processes])

    def start(self) -> None:
        raise NotImplementedError

    def submit(self, kind: str, number: int) -> object:
        raise NotImplementedError

    def result(self, submitted: object) -> int:
        raise NotImplementedError

    # measurements

    def ended(self) -> int:
        return self.done.stat().st_size if self.done.exists() else 0

    def rate(self, kind: str, jobs: int) -> dict[str, float]:
        """Returns jobs per second, and CPU µs per job of the system and of this process."""
        before, cpu, own, since = self.ended(), self.cpu(), time.process_time(), time.monotonic()
        with ThreadPoolExecutor(self.options.submitters) as threads:
            list(threads.map(lambda number: self.submit(kind, number) and None, range(jobs)))
            end = time.monotonic() + PATIENCE * 5
            while self.ended() - before < jobs:
                if time.monotonic() > end:
                    raise SystemExit(f"{self.name}: {self.ended() - before} of {jobs} jobs have run")
                time.sleep(0.005)
        seconds = time.monotonic() - since
        time.sleep(0.5)  # the ends of the last jobs are stored
        # read first: it takes CPU of this process to read that of the others
        client = (time.process_time() - own) / jobs * 1e6
        system = (self.cpu() - cpu) / jobs * 1e6
        return {
            f"{kind} jobs/s": jobs / seconds,
            f"{kind} CPU µs/job, system": system,
            f"{kind} CPU µs/job, client": client,
            f"{kind} CPU µs/job": system + client,
            f"{kind} jobs/CPU s": 1e6 / (system + client),
        }

    def latency(self, kind: str, jobs: int) -> tuple[float, float]:
        """Returns p50 and p99 in milliseconds."""
        times = []
        for number in range(jobs):
            since = time.monotonic()
            if self.result(self.submit(kind, number)) != number:
                raise SystemExit(f"{self.name}: a wrong result")
            times.append((time.monotonic() - since) * 1e3)
        times.sort()
        return statistics.median(times), times[min(len(times) - 1, round(len(times) * 0.99))]


class RedisSystem(System):
    def redis(self) -> None:
        port = free_port()
        self.run(
            self.options.redis_server, "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes",
            "--appendfsync", "everysec", "--save", "", "--dir", self.folder,
        )  # fmt: skip
        self.environment["BENCH_REDIS"] = os.environ["BENCH_REDIS"] = f"redis://127.0.0.1:{port}"
        until("redis-server", lambda: listens(port))


class Celery(RedisSystem):
    name = "Celery, prefork 2"
    needs = ("celery", "redis")
    pool = ("--concurrency", "2")

    def start(self) -> None:
        self.redis()
        self.run(sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--loglevel", "ERROR", *self.pool)
        self.app = imported("celery_app", self.folder)

    def submit(self, kind: str, number: int) -> object:
        return getattr(self.app, kind).delay(number)

    def result(self, submitted) -> int:
        return submitted.get(timeout=PATIENCE)


class CeleryThreads(Celery):
    name = "Celery, 16 threads"
    pool = ("--pool", "threads", "--concurrency", "16")


class Rq(RedisSystem):
    name = "RQ, 2 simple workers"
    needs = ("rq", "redis")
    worker = ("--worker-class", "rq.SimpleWorker")

    def start(self) -> None:
        self.redis()
        import redis
        import rq

        url = self.environment["BENCH_REDIS"] + "/4"
        self.queue = rq.Queue(connection=redis.Redis.from_url(url))
        rq_program = Path(sys.executable).with_name("rq")
        for _ in range(2):
            self.run(rq_program, "worker", "--url", url, "--quiet", *self.worker)

    def submit(self, kind: str, number: int) -> object:
        return self.queue.enqueue(f"work.{kind}", number)

    def result(self, submitted) -> int:
        found = submitted.latest_result(timeout=int(PATIENCE))
        return found.return_value


class RqFork(Rq):
    name = "RQ, 2 default workers"
    worker = ()


class Dramatiq(RedisSystem):
    name = "Dramatiq, 2 × 8 threads"
    needs = ("dramatiq", "redis")

    def start(self) -> None:
        self.redis()
        self.run(sys.executable, "-m", "dramatiq", "dramatiq_app", "--processes", "2", "--threads", "8")
        self.app = imported("dramatiq_app", self.folder)

    def submit(self, kind: str, number: int) -> object:
        return getattr(self.app, kind).send(number)

    def result(self, submitted) -> int:
        return submitted.get_result(block=True, timeout=int(PATIENCE * 1000))


class Pagewire(System):
    name = "Pagewire, one process, in memory"
    needs = ("pagewire",)
    keeps = False

    def start(self) -> None:
        more = {"PAGEWIRE_DATA_DIR": str(self.folder / "data")} if self.keeps else {}
        command = json.dumps([sys.executable, "-m", "pagewire", "pagewire_app:app"])
        pool = f'welcome = false\n[[pool]]\nname = "default"\ncommand = {command}\nfree = 2\nassigned = 0\n'
        self.node(pool, more)
        self.ready()

    def node(self, configuration: str, more: dict[str, str]) -> None:
        (self.folder / "pagewire.toml").write_text(configuration)
        port = free_port()
        self.run(
            self.options.pagewire, "serve", PAGEWIRE_LISTEN=f"127.0.0.1:{port}", PAGEWIRE_AUTH__API_KEYS=KEY,
            PAGEWIRE_NODE__ADVERTISE=f"http://127.0.0.1:{port}", PAGEWIRE_LOG="warn", **more,
        )  # fmt: skip
        from pagewire import Client

        self.client = Client(f"http://127.0.0.1:{port}", KEY)

    def ready(self) -> None:
        until("the handlers", lambda: self.client.call("noop", {"n": 7}, mode="any") == 7)

    def submit(self, kind: str, number: int) -> object:
        return self.client.jobs.submit(kind, {"n": number}, mode="any")

    def result(self, submitted) -> int:
        return self.client.jobs.result(submitted, timeout=PATIENCE)


class PagewireKept(Pagewire):
    name = "Pagewire, one process, data_dir"
    keeps = True


class PagewireNats(Pagewire):
    name = "Pagewire, NATS and a worker"

    def start(self) -> None:
        port = free_port()
        self.run(self.options.nats_server, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", self.folder / "nats")
        until("nats-server", lambda: listens(port))
        more = {"PAGEWIRE_NATS__URLS": f"nats://127.0.0.1:{port}"}
        self.node("welcome = false\n", more)
        application = [sys.executable, "-m", "pagewire", "pagewire_app:app"]
        worker = [self.options.pagewire, "worker", "--children", "2", "--", *application]
        self.run(*worker, PAGEWIRE_LOG="warn", **more)
        self.ready()


SYSTEMS = [Pagewire, PagewireKept, PagewireNats, Celery, CeleryThreads, Rq, RqFork, Dramatiq]


def imported(name: str, folder: Path):
    """Imports the application of a system into this process, as a client does."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(system: System, options: argparse.Namespace) -> dict[str, float]:
    found: dict[str, float] = {}
    try:
        system.start()
        for kind in ("noop", "pause"):
            system.latency(kind, 20)
            system.rate(kind, 100)
        for kind, jobs in (("noop", options.jobs), ("pause", options.pauses)):
            found.update(system.rate(kind, jobs))
            found[f"{kind} p50 ms"], found[f"{kind} p99 ms"] = system.latency(kind, options.alone)
    finally:
        system.stop()
    return found


def missing(kind: type[System], options: argparse.Namespace) -> str | None:
    absent = [package for package in kind.needs if importlib.util.find_spec(package) is None]
    programs = {RedisSystem: options.redis_server, PagewireNats: options.nats_server, Pagewire: options.pagewire}
    absent += [path for of, path in programs.items() if issubclass(kind, of) and shutil.which(path) is None]
    return ", ".join(absent) or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pagewire", default="target/release/pagewire", help="the measured program")
    parser.add_argument("--nats-server", default=os.environ.get("NATS_SERVER", "nats-server"))
    parser.add_argument("--redis-server", default=os.environ.get("REDIS_SERVER", "redis-server"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1000, help="no-op jobs of one run")
    parser.add_argument("--pauses", type=int, default=500, help="jobs of 5 ms of one run")
    parser.add_argument("--alone", type=int, default=100, help="jobs of one run that are submitted one at a time")
    parser.add_argument("--submitters", type=int, default=8, help="threads that enqueue")
    parser.add_argument("--only", default="", help="systems whose name contains one of these texts, with commas")
    options = parser.parse_args()
    options.pagewire = os.path.abspath(options.pagewire)
    texts = options.only.lower().split(",")
    systems = [kind for kind in SYSTEMS if any(text in kind.name.lower() for text in texts)]
    for kind in list(systems):
        absent = missing(kind, options)
        if absent is not None:
            print(f"not run: {kind.name}, without {absent}")
            systems.remove(kind)
    found: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in systems}
    for number in range(1, options.runs + 1):
        for kind in systems:
            print(f"run {number} of {options.runs}: {kind.name}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="pagewire-bench-") as path:
                folder = Path(path)
                for name, text in {
                    "work": WORK, "celery_app": CELERY, "dramatiq_app": DRAMATIQ, "pagewire_app": PAGEWIRE
                }.items():  # fmt: skip
                    (folder / f"{name}.py").write_text(text)
                os.environ["BENCH_DONE"] = str(folder / "unused")
                sys.modules.pop("work", None)
                sys.path.insert(0, path)
                try:
                    found[kind.name].append(measured(kind(options, folder), options))
                finally:
                    sys.path.remove(path)
    print(f"load average {os.getloadavg()[0]:.1f}; median (range) of {options.runs} runs")
    for name, runs in found.items():
        print(name)
        for what in runs[0]:
            each = [run[what] for run in runs]
            print(f"  {what:26} {statistics.median(each):10,.2f}  ({min(each):,.2f} – {max(each):,.2f})")


if __name__ == "__main__":
    main()
