"""The handlers that the tests of the loops call: `sync` and `threads` have sync ones, `mixed` has both."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from pagewire import App, AsyncContext, Context, Fail, Retry

sync = App(threads=1, slots=64)
one = App(threads=1)
threads = App()
mixed = App()


@dataclass
class Point:
    x: int
    y: int = 0


def both(function):
    """Registers a sync handler in all applications."""
    for app in (sync, one, threads):
        app.handler(function)
    mixed.handler(f"sync_{function.__name__}")(function)
    return function


@both
def add(ctx: Context, a: int, b: int = 1) -> int:
    """Adds two numbers.

    The rest of this text is not reported.
    """
    return a + b


@both
def echo(ctx: Context, value=None):
    return value


@both
def move(ctx: Context, point: Point, by: int = 1) -> Point:
    return Point(point.x + by, point.y)


@both
def about(ctx: Context):
    return {
        "job": ctx.job,
        "attempt": ctx.attempt,
        "left": ctx.left,
        "method": ctx.method,
        "trace": ctx.trace,
        "user": ctx.user.id,
        "page": ctx.page.id,
        "session": ctx.session.id,
        "connection": ctx.connection.id,
        "has_page": bool(ctx.page),
        "remaining": 0 < ctx.remaining <= 30,
    }


@both
def fail(ctx: Context, how: str):
    if how == "retry":
        raise Retry(after=1.5, message="later")
    if how == "fail":
        raise Fail("no_stock", "sold out")
    if how == "exit":
        sys.exit(3)
    if how == "snooze":
        ctx.snooze(2)
    if how == "surrogate":
        raise ValueError("a \ud800 b")
    raise ValueError("broken")


@both
def odd(ctx: Context, how: str):
    """Raises an exception with a member of another type than usual."""
    if how == "retry after a timedelta":
        raise Retry(after=timedelta(seconds=90))
    if how == "snooze for a timedelta":
        ctx.snooze(timedelta(minutes=1))
    if how == "snooze for nan":
        ctx.snooze(float("nan"))
    if how == "retry after a text":
        raise Retry(after="30")
    if how == "fail with an exception":
        raise Fail("no_stock", KeyError("sold out"))
    error = Retry()
    error.after = object()
    raise error


@both
def strange(ctx: Context, kind: str):
    if kind == "nan":
        return {"rows": [1.0, float("nan")]}
    if kind == "object":
        return {"rows": [{"lock": threading.Lock()}]}
    if kind == "surrogate":
        return "\ud800"
    if kind == "circle":
        value: list = []
        value.append(value)
        return value
    if kind == "deep":
        value = []
        for _ in range(64):
            value = [value]
        return value
    if kind == "coroutine":
        return {"time": time}
    return "x" * (1 << 20)


@both
def wait(ctx: Context):
    ctx.progress(0)
    while True:
        ctx.check()
        time.sleep(0.001)


@both
def swallow(ctx: Context):
    """Catches Exception, which a cancel is not."""
    while True:
        try:
            ctx.check()
            time.sleep(0.001)
        except Exception:
            pass


@both
def tracked(ctx: Context, count: int):
    total = 0
    for number in ctx.track(range(count)):
        total += number
    ctx.progress(0.5, "half")
    return total


@both
def stubborn(ctx: Context):
    """Does not stop when it is cancelled."""
    ctx.progress(0)
    while not ctx.cancelled:
        time.sleep(0.001)
    return ctx.cancelled


@both
def call(ctx: Context, method: str = "other"):
    try:
        return ctx.call(method, [1], user=None, mode="any", pool="p", timeout=2)
    finally:
        ctx.log.info("done")


@both
def push(ctx: Context):
    reached = [ctx.page.send({"n": 1}), ctx.user.send(2), ctx.send({"topic": "room"}, 3), ctx.broadcast(4)]
    return [list(one) for one in reached]


@both
def edit(ctx: Context):
    with ctx.state.user.edit() as draft:
        draft["last.query"] = "q"
        draft["list"].append(draft.get("count", 0))
        del draft["old"]
    return draft.revision


@both
def count(ctx: Context):
    def change(draft):
        draft["count"] = draft.get("count", 0) + 1

    return ctx.state.of("user", "bob").update(change)


@both
def trees(ctx: Context):
    tree = ctx.state.session
    return [
        tree.get("a"),
        tree.get("missing", 7),
        list(tree.read("a")),
        tree.set("a", 1, if_revision=3),
        tree.delete("a"),
    ]


@both
def jobs(ctx: Context):
    first = ctx.jobs.submit("report", {"a": 1}, user=None, delay=2, retries=3, key="k", mode="any", pool="p")
    return [first, ctx.jobs.submit("report"), ctx.jobs.get(first), ctx.jobs.cancel(first)]


@both
def lock(ctx: Context, seconds: float = 0.0):
    with ctx.lock("stock", ttl=0.15, wait=1) as held:
        end = time.monotonic() + seconds
        while held.held and time.monotonic() < end:
            ctx.check()
            time.sleep(0.001)
        return [held.token, held.held]


@both
def log(ctx: Context):
    ctx.log.debug("one")
    ctx.log.warn("two", amount=3, lock=threading.Lock(), huge=10**400)
    print("printed", flush=False)
    return ctx.log.error("three")


@both
def many(ctx: Context, count: int = 8):
    """Sends requests from several threads at once."""
    values = [None] * count

    def ask(number):
        values[number] = ctx.call("double", number)

    running = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return values


@both
def big_request(ctx: Context):
    ctx.page.send("x" * (1 << 20))


@both
def environment(ctx: Context):
    code = "import os; print([name for name in os.environ if name in ('PAGEWIRE_SOCKET', 'PAGEWIRE_TOKEN')])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()


@both
def thread_name(ctx: Context):
    return threading.current_thread().name


@both
def hang(ctx: Context):
    ctx.progress(0)
    time.sleep(600)


@both
def slow(ctx: Context, seconds: float):
    time.sleep(seconds)
    return "slow"


@both
def fork(ctx: Context):
    """Starts a process that lives on with the descriptors of this one."""
    started = os.fork()
    if started == 0:
        time.sleep(600)
        os._exit(0)
    return started


@both
def pid(ctx: Context):
    return os.getpid()


@mixed.handler("add")
async def add_async(ctx: AsyncContext, a: int, b: int = 1) -> int:
    return a + b


@mixed.handler("echo")
async def echo_async(ctx: AsyncContext, value=None):
    await asyncio.sleep(0)
    return value


@mixed.handler("fail")
async def fail_async(ctx: AsyncContext, how: str):
    await asyncio.sleep(0)
    fail(ctx, how)


@mixed.handler("strange")
async def strange_async(ctx: AsyncContext, kind: str):
    return strange(ctx, kind)


@mixed.handler("wait")
async def wait_async(ctx: AsyncContext):
    ctx.progress(0)
    await asyncio.sleep(600)


@mixed.handler("stubborn")
async def stubborn_async(ctx: AsyncContext):
    ctx.progress(0)
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        return ctx.cancelled


@mixed.handler("tracked")
async def tracked_async(ctx: AsyncContext, count: int):
    total = 0
    async for number in ctx.track(range(count)):
        total += number
    ctx.progress(0.5, "half")
    return total


@mixed.handler("swallow")
async def swallow_async(ctx: AsyncContext):
    async for _ in ctx.track(range(10**9)):
        try:
            await asyncio.sleep(0.001)
        except Exception:
            pass


@mixed.handler("call")
async def call_async(ctx: AsyncContext, method: str = "other"):
    try:
        return await ctx.call(method, [1], user=None, mode="any", pool="p", timeout=2)
    finally:
        ctx.log.info("done")


@mixed.handler("push")
async def push_async(ctx: AsyncContext):
    sends = [ctx.page.send({"n": 1}), ctx.user.send(2), ctx.send({"topic": "room"}, 3), ctx.broadcast(4)]
    return [list(await one) for one in sends]


@mixed.handler("edit")
async def edit_async(ctx: AsyncContext):
    async with ctx.state.user.edit() as draft:
        draft["last.query"] = "q"
        draft["list"].append(draft.get("count", 0))
        del draft["old"]
    return draft.revision


@mixed.handler("count")
async def count_async(ctx: AsyncContext):
    def change(draft):
        draft["count"] = draft.get("count", 0) + 1

    return await ctx.state.of("user", "bob").update(change)


@mixed.handler("trees")
async def trees_async(ctx: AsyncContext):
    tree = ctx.state.session
    return [
        await tree.get("a"),
        await tree.get("missing", 7),
        list(await tree.read("a")),
        await tree.set("a", 1, if_revision=3),
        await tree.delete("a"),
    ]


@mixed.handler("jobs")
async def jobs_async(ctx: AsyncContext):
    first = await ctx.jobs.submit("report", {"a": 1}, user=None, delay=2, retries=3, key="k", mode="any", pool="p")
    return [first, await ctx.jobs.submit("report"), await ctx.jobs.get(first), await ctx.jobs.cancel(first)]


@mixed.handler("lock")
async def lock_async(ctx: AsyncContext, seconds: float = 0.0):
    async with ctx.lock("stock", ttl=0.15, wait=1) as held:
        end = time.monotonic() + seconds
        while held.held and time.monotonic() < end:
            await asyncio.sleep(0.001)
        return [held.token, held.held]


@mixed.handler("many")
async def many_async(ctx: AsyncContext, count: int = 8):
    return await asyncio.gather(*(ctx.call("double", number) for number in range(count)))


@mixed.handler("big_request")
async def big_request_async(ctx: AsyncContext):
    await ctx.page.send("x" * (1 << 20))


for _name in ("move", "about", "log", "environment", "hang", "fork", "slow", "odd", "pid", "thread_name"):
    mixed.handler(_name)(globals()[_name])
