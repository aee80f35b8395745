"""The handlers of `pagewire child check`, in each style of loop: `blocking`, `threads` and `mixed`."""

import asyncio
import subprocess
import sys
import time

from pagewire import App, AsyncContext, Context, Error, Fail, Retry

blocking = App(threads=1)
threads = App()
mixed = App()


def everywhere(name):
    def register(function):
        for app in (blocking, threads, mixed):
            app.handler(name)(function)
        return function

    return register


@everywhere("check.echo")
def echo(ctx: Context, value=None):
    return value


@everywhere("check.sleep")
def sleep(ctx: Context, ms: int):
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        ctx.progress(1 - left * 1000 / ms)
        ctx.check()
        time.sleep(min(0.05, left))


for app in (blocking, threads):
    app.handler("check.sleep_async")(sleep)


@mixed.handler("check.sleep_async")
async def sleep_async(ctx: AsyncContext, ms: int):
    end = time.monotonic() + ms / 1000
    while (left := end - time.monotonic()) > 0:
        ctx.progress(1 - left * 1000 / ms)
        await asyncio.sleep(min(0.05, left))


@everywhere("check.fail")
def fail(ctx: Context, code: str, message: str, retryable: bool = False, after_ms: int = None):
    if after_ms is not None:
        raise Retry(after=after_ms / 1000, message=message)
    if retryable:
        raise Error(code, message, retryable)
    raise Fail(code, message)


@everywhere("check.big")
def big(ctx: Context, bytes: int):
    return "x" * bytes


@everywhere("check.typed")
def typed(ctx: Context, n: int):
    return n


@everywhere("check.ask")
def ask(ctx: Context, method: str, params=None):
    try:
        return {"value": ctx.call(method, params)}
    except Error as error:
        return {"error": {"code": error.code, "message": error.message, "retryable": error.retryable}}


@everywhere("check.snooze")
def snooze(ctx: Context, after_ms: int):
    ctx.snooze(after_ms / 1000)


@everywhere("check.work")
def work(ctx: Context):
    owner = {level: getattr(ctx, level).id for level in ("user", "page", "session", "connection")}
    return {"job": ctx.job, "attempt": ctx.attempt, "left": ctx.left, "trace": ctx.trace, **owner}


@everywhere("check.log")
def log(ctx: Context, level: str, message: str):
    getattr(ctx.log, level)(message)


@everywhere("check.print")
def print_lines(ctx: Context, lines: int):
    for number in range(lines):
        print("line", number)
        print("line", number, file=sys.stderr)


@everywhere("check.spawn")
def spawn(ctx: Context):
    return subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
