"""Handlers of the tests in Python: what they see, and what they do to pages, trees, jobs and locks."""

from __future__ import annotations

import os
import time
from typing import Optional

from pagewire import App, AsyncContext, Context, Error, Fail, Retry

VERSION = os.environ.get("WAYS_VERSION", "1")

app = App()


@app.handler
def who(ctx: Context) -> dict:
    """Returns the process, and for whom it runs the work."""
    return {"pid": os.getpid(), "version": VERSION, "user": ctx.user.id, "job": ctx.job, "page": ctx.page.id}


@app.handler
def echo(ctx: Context, number: int) -> int:
    return number


@app.handler
async def add(ctx: AsyncContext, left: int, right: int) -> int:
    return left + right


@app.handler(retries=3)
def nap(ctx: Context, ms: int = 1000, file: Optional[str] = None) -> int:
    """Creates a file, sleeps and reports its progress; returns its process."""
    if file:
        open(file, "w").close()
    for _ in ctx.track(range(ms // 20)):
        time.sleep(0.02)
    return os.getpid()


@app.handler
def remember(ctx: Context, text: str) -> dict:
    """Writes to the trees of the caller, and pushes to its page and user."""
    with ctx.state.user.edit() as tree:
        tree["notes.last"] = text
    revision = ctx.state.session.set("notes.session", text)
    page = ctx.page.send({"page": text})
    user = ctx.user.send({"user": text})
    return {"revision": revision, "page": page.reached, "user": user.reached}


@app.handler
async def count(ctx: AsyncContext) -> int:
    """Adds one to the counter of the user; correct however many of these run at a time."""
    await ctx.state.user.update(lambda tree: tree.__setitem__("count", tree.get("count", 0) + 1))
    return await ctx.state.user.get("count")


@app.handler
def delegate(ctx: Context) -> dict:
    """Calls another handler and submits a job."""
    total = ctx.call("add", {"left": 3, "right": 4})
    job = ctx.jobs.submit("add", {"left": total, "right": 1})
    return {"total": total, "job": job, "state": ctx.jobs.get(job)["state"]}


@app.handler
def reserve(ctx: Context, file: str, ms: int = 200, wait: float = 10) -> int:
    """Appends to a file while it holds a lock; returns the token of the lock."""
    with ctx.lock("shelf", wait=wait) as lock:
        for word in ("begin", "end"):
            with open(file, "a") as lines:
                lines.write(f"{word} {os.getpid()} {lock.token}\n")
            time.sleep(ms / 1000)
        return lock.token


@app.handler(retries=2)
def later(ctx: Context, file: str) -> dict:
    """Is put off twice, and fails once for a moment."""
    with open(file, "a") as lines:
        lines.write(f"{ctx.attempt}\n")
    with open(file) as lines:
        begun = len(lines.readlines())
    if begun <= 2:
        ctx.snooze(0.05)
    if begun == 3:
        raise Retry(after=0.05, message="not yet")
    return {"begun": begun, "attempt": ctx.attempt}


@app.handler(retries=5)
def refuse(ctx: Context) -> None:
    raise Fail("sold_out", "nothing is left")


@app.handler
def peek(ctx: Context, user: str) -> str:
    """Returns the code of the refusal of a request that is wrong."""
    try:
        ctx.state.of("user", user).set("a..b", 1)
    except Error as error:
        return error.code
    return "none"
