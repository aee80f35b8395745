"""A stand-in for Pagewire in a test.

Owns: running calls, jobs and messages of pages, the clock, crashes and cancels. Never: the states of a job (`job`), the
messages of a page (`page`), state trees and locks (`store`), or the requests of a context (`inside`).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Callable, NoReturn

from .. import outcome
from ..context import AsyncContext, Context
from ..errors import Error, error_of
from ..page_work import work_of
from ..wire import Message, encode
from .inside import Crash, Inside
from .job import Job, Push
from .page import OpenPage
from .store import Locks, Store

if TYPE_CHECKING:
    from ..app import App
    from ..context import AnyContext
    from ..handler import Runnable
    from ..page import Page

LEVELS = ("user", "page", "session", "connection")


class Harness:
    """Runs the handlers and resident pages of an application. A new harness begins without pages.

    `pushes`, `logs` and `progress` have what the handlers have sent. `tree(level, id)` is a state tree, which a test
    may change. `now` is the time in seconds; only `advance` moves it.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.now = 0.0
        self.pushes: list[Push] = []
        self.logs: list[dict[str, Any]] = []
        self.progress: list[tuple[float, str | None]] = []
        self.jobs: dict[str, Job] = {}
        self.pages: Callable[[dict[str, Any]], int] = lambda to: 1
        self._store = Store()
        self._locks = Locks()
        self._link = Inside(self)
        self._faults: deque[tuple[int, str]] = deque()
        self._running: list[AnyContext] = []
        self._crashed: set[int] = set()
        self._ids = 0
        app.residents.clear()

    def tree(self, level: str, id: str) -> dict[str, Any]:
        """Returns a state tree. A test may read and change it."""
        return self._store.tree(level, id)

    def call(self, method: str, params: Any = None, **owner: str) -> Any:
        """Calls a handler and returns its result. `owner` is the `user`, `page`, `session` and `connection`.

        Raises Error if the handler fails; its code is `worker_lost` after a crash.
        """
        return _value(self._run({"t": "call", "method": method, "params": _copy(params), "deadline_ms": 30000}, owner))

    def job(self, kind: str, data: Any = None, *, retries: int | None = None, delay: float = 0, **owner: str) -> Job:
        """Submits a job, runs it if it is due, and returns it. `owner` is as in `call`."""
        job = self._submit(kind, data, retries, delay, owner)
        self.run()
        return job

    def open(self, page_class: type[Page] | str, page: str | None = None, **owner: str) -> OpenPage:
        """Opens a page with an object of a registered class, named by itself or by its name. `owner` is as in `call`.

        Raises Error if the object refuses it.
        """
        name = page_class if isinstance(page_class, str) else self._name_of(page_class)
        self._ids += 1
        opened = OpenPage(self, name, page or f"page-{self._ids}", _named(owner))
        opened._send("open")
        return opened

    def advance(self, seconds: float) -> None:
        """Moves the clock, and runs each job at its time."""
        end = self.now + seconds
        while True:
            due = min((job.due for job in self.jobs.values() if self._waits(job)), default=end + 1)
            if due > end:
                break
            self.now = max(self.now, due)
            self.run()
        self.now = end

    def run(self) -> None:
        """Runs the jobs that are due."""
        while True:
            due = [job for job in self.jobs.values() if self._waits(job) and job.due <= self.now]
            if not due:
                return
            self._attempt(min(due, key=lambda job: job.due))

    def crash(self, after: int = 0) -> None:
        """Lets the child die: now, if a handler calls this, else at a request, progress or check of the next work.

        `after` is how many of them still succeed. The attempt of a job is lost and begins again, without counting as
        a failure; a call fails with `worker_lost`.
        """
        if self._running and after == 0:
            self._die(self._running[-1])
        self._faults.append((after, "crash"))

    def cancel(self, job: Job | None = None, *, after: int = 0, why: str = "cancelled") -> None:
        """Cancels a job that waits; or the work that runs; or, if none runs, the next one, at a request, progress or
        check of it. `after` is how many of them still succeed.
        """
        if job is not None and self._waits(job):
            job.state = "cancelled"
        elif self._running and after == 0:
            self._stop(self._running[-1], why)
        else:
            self._faults.append((after, why))

    # jobs

    def _submit(self, kind: str, data: Any, retries: int | None, delay: float, owner: dict[str, str]) -> Job:
        handler = self.app.handlers.get(kind)
        if retries is None:
            retries = (handler.retries if handler else None) or 0
        self._ids += 1
        job = Job(f"job-{self._ids}", kind, _copy(data), _named(owner), retries, self.now + delay)
        job.state = "scheduled" if delay else "queued"
        self.jobs[job.id] = job
        return job

    def _waits(self, job: Job) -> bool:
        # a job without a handler waits for an executor that has one
        return job.state in ("queued", "scheduled") and job.kind in self.app.handlers

    def _attempt(self, job: Job) -> None:
        job.state, job.attempts = "running", job.attempts + 1
        handler = self.app.handlers[job.kind]
        timeout = round((handler.timeout or 1800) * 1000)
        left = max(0, job.retries - job.failures)
        message = {"t": "job", "job": job.id, "method": job.kind, "params": job.data, "attempt": job.attempts}
        job.settle(self._run({**message, "left": left, "timeout_ms": timeout}, job.owner), self.now)

    # one piece of work

    def _run(self, message: Message, owner: dict[str, str]) -> Message:
        """Runs a handler, or a method of the page that asks for it, and returns the end of its work."""
        handler = self.app.handlers.get(message["method"])
        if handler is not None:
            return self._perform(handler, {**message, **_named(owner)})
        name, _, method = message["method"].partition(".")
        if name in self.app.pages and "page" in owner:
            return self._run_page({**message, "t": "rpc", "class": name, "method": method}, owner)
        return _error("no_executor", f"there is no handler `{message['method']}`", True)

    def _run_page(self, message: Message, owner: dict[str, str]) -> Message:
        """Runs a message of a resident page and returns the end of its work."""
        message = {**message, **_named(owner)}
        try:
            work = work_of(self.app.residents, message)
        except Error as error:
            return _error(error.code, error.message, error.retryable)
        outer = [one._message for one in self._running if one._message["t"] in ("rpc", "page")]
        if any(one["page"] == message["page"] for one in outer) and work.would_wait(message["page"]):
            return _error("timeout", f"the page {message['page']} waits for a message that waits for this one", True)
        return self._perform(work, message)

    def _perform(self, work: Runnable, message: Message) -> Message:
        self._ids += 1
        message["id"] = self._ids
        context = AsyncContext(self._link, message) if work.is_async else Context(self._link, message)
        self._running.append(context)
        try:
            value = work.run(context)
            if work.is_async:
                value = _complete(self._as_task(context, value))
            frame = outcome.result(context, value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            frame = outcome.failure(context, error)
        finally:
            context._over = True
            self._running.remove(context)
        if context._id in self._crashed:
            self.app.residents.clear()
            return {"t": "lost"}
        end: Message = json.loads(frame[4:])
        return end

    # pages

    def _name_of(self, page_class: type[Page]) -> str:
        names = [name for name, known in self.app.pages.items() if known.type is page_class]
        if not names:
            raise TypeError(f"{page_class.__name__} is not registered: app.page({page_class.__name__})")
        return names[0]

    def _tell_page(self, message: Message, owner: dict[str, str]) -> Any:
        return _value(self._run_page(_copy(message), owner))

    def _call_page(self, name: str, method: str, params: Any, owner: dict[str, str]) -> Any:
        known = self.app.pages[name].methods.get(method)
        deadline = round((known.timeout if known and known.timeout else 30) * 1000)
        message = {"t": "rpc", "class": name, "method": method, "params": _copy(params), "deadline_ms": deadline}
        return _value(self._run_page(message, owner))

    async def _as_task(self, context: AnyContext, coroutine: Any) -> Any:
        context._task = asyncio.current_task()
        return await coroutine

    def step(self, context: AnyContext) -> None:
        """Injects a crash or cancel that is due at this request, progress or check."""
        if context._id in self._crashed:
            raise Crash
        if not self._faults:
            return
        after, what = self._faults.popleft()
        if after > 0:
            self._faults.appendleft((after - 1, what))
        elif what == "crash":
            self._die(context)
        else:
            self._stop(context, what)

    def _die(self, context: AnyContext) -> NoReturn:
        self._crashed.add(context._id)
        raise Crash

    def _stop(self, context: AnyContext, why: str) -> None:
        context._reason = why
        if context._task is not None:
            context._delivered = True
            context._task.cancel()

    # requests of handlers

    def answer(self, context: AnyContext, method: str, params: dict[str, Any]) -> Any:
        """Returns the value of a request, as the supervisor would."""
        params = _copy(params)
        if method.startswith("state."):
            return self._store.answer(context._message, method, params)
        if method.startswith("lock."):
            return self._locks.answer(method, params, self.now)
        if method == "push.send":
            self.pushes.append(Push(params["to"], params["payload"]))
            return {"reached": self.pages(params["to"]), "held": 0}
        owner = {level: context._message[level] for level in LEVELS if level in context._message}
        if "user" in params:
            owner = {"user": params["user"]} if params["user"] is not None else {}
        if method == "call":
            call = {"t": "call", "method": params["method"], "params": params.get("params")}
            return _value(self._run({**call, "deadline_ms": params.get("timeout_ms", 30000)}, owner))
        return self._answer_job(method, params, owner)

    def _answer_job(self, method: str, params: dict[str, Any], owner: dict[str, str]) -> Any:
        if method == "job.submit":
            delay = params.get("run_in_ms", 0) / 1000
            return {"job": self._submit(params["kind"], params.get("data"), params.get("retries"), delay, owner).id}
        job = self.jobs.get(params["job"])
        if job is None:
            raise Error("unknown", f"there is no job {params['job']}")
        if method == "job.get":
            return job.describe()
        if job.ended:
            raise Error("conflict", f"this job is {job.state}: only a job that has not ended can be cancelled")
        if job.state != "running":
            job.state = "cancelled"
        return {"state": job.state}


def _complete(coroutine: Any) -> Any:
    """Runs a coroutine to its end, in a thread of its own if this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    done: list[Any] = []

    def run() -> None:
        try:
            done.append((asyncio.run(coroutine), None))
        except BaseException as error:
            done.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    value, error = done[0]
    if error is not None:
        raise error
    return value


def _copy(value: Any) -> Any:
    return json.loads(encode(value))


def _named(owner: dict[str, str]) -> dict[str, str]:
    unknown = set(owner) - set(LEVELS)
    if unknown:
        raise TypeError(f"work belongs to a {', '.join(LEVELS)}, not to {', '.join(sorted(unknown))}")
    return {level: id for level, id in owner.items() if id is not None}


def _error(code: str, message: str, retryable: bool) -> Message:
    return {"t": "error", "code": code, "message": message, "retryable": retryable}


def _value(end: Message) -> Any:
    """Returns the value of a call, or raises its error."""
    if end["t"] == "result":
        return end["value"]
    if end["t"] == "error":
        raise error_of(end)
    if end["t"] == "lost":
        raise Error("worker_lost", "the executor died while it ran the call", True)
    if end["t"] == "stopped":
        raise Error("cancelled", "the call was cancelled")
    raise Error("failed", "a call cannot be put off")
