"""Resident pages in the harness."""

import pytest

from pagewire import App, Context, Error, Fail, NoObject, Page, rpc
from pagewire.testing import Harness, Push

app = App()


@app.page
class Counter(Page):
    def on_open(self):
        self.n = 0
        self.events = ["open"]
        if self.user == "eve":
            raise Fail("forbidden", "not for eve")

    @rpc
    def add(self, by: int = 1) -> int:
        self.n += by
        self.data.set("n", self.n)
        self.send({"n": self.n})
        return self.n

    @rpc(concurrent=True, timeout=2)
    def peek(self):
        return [self.n, self.ctx.remaining]

    @rpc
    def ask_self(self, method: str):
        return self.ctx.call(f"Counter.{method}")

    def save(self):
        return {"n": self.n, "events": self.events}

    def restore(self, saved, why):
        self.n, self.events = saved["n"], [*saved["events"], f"restore {why} for {self.user}"]

    def on_restore(self, why):
        self.n, self.events = self.data.get("n", 0), [f"on_restore {why}"]

    def on_away(self):
        self.events.append("away")

    def on_back(self):
        self.events.append("back")

    def on_close(self):
        if self.n > 100:
            raise ValueError("too many")


@app.page
class Later(Page):
    async def on_open(self):
        self.n = 0

    @rpc
    async def add(self, by: int = 1) -> int:
        self.n += by
        await self.data.set("n", self.n)
        return self.n

    @rpc
    def sync_add(self):
        self.n += 1
        return self.n


@app.handler
def add_outside(ctx: Context, page: str):
    with app.object(page, Counter) as counter:
        counter.n += 10


@app.handler
def add_on_page(ctx: Context):
    return ctx.call("Counter.add", {"by": 3})


@pytest.fixture
def harness():
    return Harness(app)


@pytest.fixture
def page(harness):
    return harness.open(Counter, page="p1", user="ada")


def test_a_page_is_opened_called_and_closed(harness, page):
    assert [page.call("add"), page.call("add", {"by": 4}), page.call("add", [5])] == [1, 5, 10]
    assert harness.pushes[-1] == Push({"page": "p1"}, {"n": 10})
    assert harness.tree("page", "p1") == {"n": 10}
    assert (page.object.n, page.object.user, page.object.page) == (10, "ada", "p1")
    page.close()
    for use in (lambda: page.call("add"), page.away, lambda: page.object):
        with pytest.raises((Error, NoObject)):
            use()


def test_an_object_that_refuses_to_open_is_an_error(harness):
    with pytest.raises(Error, match="not for eve"):
        harness.open(Counter, page="p1", user="eve")
    assert app.objects() == []


def test_wrong_parameters_and_methods_are_refused(page):
    with pytest.raises(Error, match="malformed: `by`: expected an integer"):
        page.call("add", {"by": "x"})
    with pytest.raises(Error, match="no_executor: `Counter` has no method `ad`"):
        page.call("ad")


def test_the_object_is_told_that_its_page_is_away_and_back(page):
    page.away()
    page.back(connection="c2")
    assert page.object.events == ["open", "away", "back"]
    assert page.object.connection == "c2"


def test_a_planned_move_restores_what_was_saved(page):
    page.call("add")
    before = page.object
    assert page.move("recycle") == {"n": 1, "events": ["open"]}
    assert page.object is not before
    page.move("user", user="bob")
    assert page.object.events == ["open", "restore recycle for ada", "restore user for bob"]
    assert page.call("add") == 2


def test_an_object_that_is_killed_is_rebuilt_from_its_state_tree(harness, page):
    page.call("add", [7])
    page.kill()
    assert page.object.events == ["on_restore lost"]
    assert page.call("add") == 8
    harness.tree("page", "p1")["n"] = 20
    page.kill()
    assert page.object.n == 20


def test_a_crash_loses_all_objects_and_they_are_rebuilt_at_their_next_message(harness, page):
    other = harness.open("Later", page="p2")
    page.call("add")
    harness.crash(after=1)
    with pytest.raises(Error, match="worker_lost"):
        page.call("add")
    assert app.objects() == []
    assert page.call("add") == 3  # the value that was written before the crash, and one
    assert page.object.events == ["on_restore lost"]
    assert other.call("add") == 1


def test_a_cancel_stops_a_method_and_the_object_lives_on(harness, page):
    harness.cancel(after=1)
    with pytest.raises(Error, match="cancelled"):
        page.call("add")
    assert page.call("peek")[0] == 1


def test_an_async_class_has_async_requests(harness):
    page = harness.open(Later)
    assert [page.call("add"), page.call("sync_add"), page.call("add", [3])] == [1, 2, 5]
    assert harness.tree("page", page.id) == {"n": 5}
    page.kill()
    assert page.call("add") == 1


def test_handlers_meet_objects_and_call_their_methods(harness, page):
    harness.call("add_outside", ["p1"])
    assert harness.call("add_on_page", page="p1") == 13
    with pytest.raises(Error, match="no_executor"):
        harness.call("add_on_page")
    with pytest.raises(Error, match="stale"):
        harness.call("add_on_page", page="p9")


def test_a_method_that_waits_for_its_own_object_is_an_error_and_not_a_hang(page):
    with pytest.raises(Error, match="timeout"):
        page.call("ask_self", ["add"])
    assert page.call("ask_self", ["peek"])[0] == 0


def test_the_deadline_of_a_method_is_its_timeout(page):
    assert page.call("peek")[1] == 2


def test_an_end_that_fails_ends_the_object_all_the_same(page):
    page.call("add", [101])
    with pytest.raises(Error, match="too many"):
        page.close()
    assert app.objects() == []
    with pytest.raises(Error, match="stale"):
        page.call("add")


def test_a_class_that_is_not_registered_is_named(harness):
    class Other(Page):
        pass

    with pytest.raises(TypeError, match=r"app\.page\(Other\)"):
        harness.open(Other)
    with pytest.raises(Error, match="there is no class of pages `Countr`: did you mean `Counter`"):
        harness.open("Countr")


def test_a_new_harness_begins_without_objects(page):
    Harness(app)
    assert app.objects() == []
