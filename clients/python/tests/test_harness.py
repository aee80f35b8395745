"""The harness for tests of handlers."""

import asyncio

import pytest

from pagewire import App, AsyncContext, Cancelled, Conflict, Context, Error, Fail, Retry
from pagewire.testing import Harness, Push

app = App()


@app.handler
def add(ctx: Context, a: int, b: int = 1):
    return a + b


@app.handler
async def add_later(ctx: AsyncContext, a: int):
    return await ctx.call("add", {"a": a})


@app.handler
def nested(ctx: Context, a: int):
    return ctx.call("add_later", [a])


@app.handler
def owner(ctx: Context):
    return [ctx.user.id, ctx.page.id, bool(ctx.session), ctx.job, ctx.attempt, ctx.left]


@app.handler(retries=2)
def flaky(ctx: Context, fails: int = 1):
    if ctx.attempt <= fails:
        raise ValueError("not yet")
    return ctx.attempt


@app.handler
def waits(ctx: Context):
    raise Retry(after=60)


@app.handler
def refuses(ctx: Context):
    raise Fail("no_stock", "sold out")


@app.handler
def naps(ctx: Context):
    if not ctx.state.user.get("rested"):
        ctx.state.user.set("rested", True)
        ctx.snooze(100)
    return ctx.attempt


@app.handler
def report(ctx: Context, rows: int = 3):
    done = []
    for row in ctx.track(range(rows)):
        done.append(row)
        ctx.page.send({"row": row})
    ctx.log.info("done", rows=rows)
    return done


@app.handler
def guarded(ctx: Context):
    try:
        ctx.page.send("begin")
    finally:
        ctx.page.send("end")


@app.handler
async def slow(ctx: AsyncContext):
    try:
        await ctx.page.send("begin")
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        await ctx.page.send("cancelled")
        raise


@app.handler
def count(ctx: Context):
    with ctx.state.user.edit() as tree:
        tree["count"] = tree.get("count", 0) + 1
    return ctx.state.user.update(lambda draft: draft.__setitem__("twice", 2 * draft["count"]))


@app.handler
def spawns(ctx: Context):
    return ctx.jobs.submit("add", [1, 2], delay=10)


@app.handler
def locked(ctx: Context):
    with ctx.lock("stock") as first:
        try:
            with ctx.lock("stock"):
                pass
        except Error as error:
            return [first.token, error.code]


@app.handler
def odd(ctx: Context):
    return {1, 2}


@pytest.fixture
def harness():
    return Harness(app)


def test_a_call_runs_its_handler_in_the_test(harness):
    assert harness.call("add", [1, 2]) == 3
    assert harness.call("add_later", {"a": 1}) == 2
    assert harness.call("nested", [5]) == 6


def test_a_call_fails_as_it_would_with_a_server(harness):
    for method, params, code in [
        ("add", {"a": "x"}, "malformed"),
        ("ad", None, "no_executor"),
        ("refuses", None, "no_stock"),
        ("flaky", None, "failed"),
        ("odd", None, "failed"),
        ("naps", None, "unknown"),
    ]:
        with pytest.raises(Error) as raised:
            harness.call(method, params)
        assert raised.value.code == code


def test_work_belongs_to_a_user_and_a_page(harness):
    assert harness.call("owner", user="ada", page="p1") == ["ada", "p1", False, None, 1, 0]
    with pytest.raises(TypeError, match="not to tab"):
        harness.call("owner", tab="x")


def test_a_job_is_tried_again_on_the_clock_of_the_test(harness):
    job = harness.job("flaky", {"fails": 2})
    assert (job.state, job.attempts) == ("scheduled", 1)
    harness.advance(0.9)
    assert job.attempts == 1
    harness.advance(0.1)
    assert (job.state, job.attempts) == ("scheduled", 2)
    harness.advance(2)
    assert (job.state, job.attempts, job.result, harness.now) == ("succeeded", 3, 3, 3.0)


def test_a_job_without_retries_left_is_dead(harness):
    job = harness.job("flaky", [9])
    harness.advance(1000)
    assert (job.state, job.attempts, job.error.message) == ("dead", 3, "ValueError: not yet")
    assert harness.job("refuses", retries=5).state == "failed"


def test_retry_names_the_earliest_next_attempt(harness):
    job = harness.job("waits", retries=1)
    harness.advance(59)
    assert job.attempts == 1
    harness.advance(1)
    assert (job.attempts, job.state) == (2, "dead")


def test_snooze_is_no_attempt(harness):
    job = harness.job("naps", user="ada")
    assert (job.state, job.attempts) == ("scheduled", 0)
    harness.advance(100)
    assert (job.state, job.result) == ("succeeded", 1)


def test_pushes_progress_and_log_are_recorded(harness):
    job = harness.job("report", page="p1")
    assert job.result == [0, 1, 2]
    assert harness.pushes == [Push({"page": "p1"}, {"row": row}) for row in range(3)]
    assert job.progress == harness.progress == [(1.0, None)]
    assert harness.logs[0]["fields"] == {"rows": 3}


def test_state_trees_are_seeded_and_read_by_the_test(harness):
    harness.tree("user", "ada")["count"] = 5
    harness.call("count", user="ada")
    assert harness.tree("user", "ada") == {"count": 6, "twice": 12}
    harness.call("count", user="ada")
    assert harness.tree("user", "ada") == {"count": 7, "twice": 14}


def test_an_edit_conflicts_with_a_change_of_the_test(harness):
    races = App()

    @races.handler
    def race(ctx: Context):
        with ctx.state.user.edit() as tree:
            tree["mine"] = 1
            other.tree("user", "ada")["theirs"] = 1

    other = Harness(races)
    with pytest.raises(Conflict):
        other.call("race", user="ada")
    assert other.tree("user", "ada") == {"theirs": 1}


def test_a_crash_loses_the_attempt_and_begins_it_again(harness):
    harness.crash(after=1)
    job = harness.job("report", page="p1")
    assert (job.state, job.attempts, job.failures, job.result) == ("succeeded", 2, 0, [0, 1, 2])
    assert [push.payload["row"] for push in harness.pushes] == [0, 1, 2]


def test_a_crash_runs_no_effects_of_finally(harness):
    harness.crash(after=1)
    with pytest.raises(Error) as raised:
        harness.call("guarded", page="p1")
    assert (raised.value.code, raised.value.retryable) == ("worker_lost", True)
    assert [push.payload for push in harness.pushes] == ["begin"]


def test_a_job_that_crashes_each_time_is_dead():
    crashing = App()

    @crashing.handler
    def crash(ctx: Context):
        harness.crash()

    harness = Harness(crashing)
    job = harness.job("crash")
    assert (job.state, job.attempts, job.error.code) == ("dead", 4, "lost")


def test_a_cancel_stops_the_work_at_a_request_or_check(harness):
    harness.cancel(after=3)
    job = harness.job("report", page="p1")
    assert job.state == "cancelled"
    assert len(harness.pushes) < 3


def test_a_cancel_cancels_the_task_of_an_async_handler(harness):
    harness.cancel()
    with pytest.raises(Error) as raised:
        harness.call("slow", page="p1")
    assert raised.value.code == "cancelled"
    assert [push.payload for push in harness.pushes] == ["cancelled"]


def test_a_job_that_waits_is_cancelled(harness):
    job = harness.job("add", [1], delay=10)
    harness.cancel(job)
    harness.advance(20)
    assert (job.state, job.attempts) == ("cancelled", 0)


def test_a_handler_submits_jobs(harness):
    job = harness.jobs[harness.call("spawns", user="ada")]
    assert (job.state, job.owner) == ("scheduled", {"user": "ada"})
    harness.advance(10)
    assert job.result == 3


def test_a_lock_has_one_holder(harness):
    assert harness.call("locked") == [1, "locked"]
    assert harness.call("locked") == [2, "locked"]


def test_cancelled_is_no_exception():
    assert not issubclass(Cancelled, Exception)
