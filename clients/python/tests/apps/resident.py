"""Resident pages for the tests: `sync` has sync methods, `mixed` has the same class with async ones, and a sync one."""

from __future__ import annotations

import asyncio
import threading
import time

from pagewire import App, Context, Error, Fail, NoObject, Page, rpc

sync = App(threads=1, slots=64)
threads = App()
mixed = App()


class Overlap:
    """Notes whether two pieces of code have the object at a time."""

    def __init__(self):
        self.inside = 0
        self.most = 0

    def __enter__(self):
        self.inside += 1
        self.most = max(self.most, self.inside)

    def __exit__(self, *error):
        self.inside -= 1


class Base(Page):
    """What both styles have."""

    def __init__(self):
        self.told = [f"made {self.page}"]
        self.overlap = Overlap()
        self.n = 0

    def fail_if(self, hook, user):
        if user == f"fails in {hook}":
            raise Fail("broken", hook)

    @rpc
    def about(self):
        """Returns what the object knows."""
        return {
            "page": self.page,
            "user": self.user,
            "session": self.session,
            "connection": self.connection,
            "told": self.told,
            "n": self.n,
            "method": self.ctx.method,
            "work": [self.ctx.page.id, self.ctx.user.id, self.ctx.job],
            "thread": threading.current_thread().name,
        }

    @rpc(concurrent=True, timeout=2.5)
    def peek(self):
        return [self.n, self.ctx.method]

    @rpc
    def outside(self):
        """Asks for the context of this message in a thread that has none."""
        errors = []

        def ask():
            try:
                self.ctx.check()
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return errors

    @rpc
    def again(self):
        """Meets itself within a message."""
        with app_of(self).object(self.page) as same:
            return same is self


def app_of(page):
    return next(app for app in (sync, threads, mixed) if app.residents.find(page.page) is not None)


@sync.page
@threads.page
class Counter(Base):
    def on_open(self):
        self.told.append(f"open for {self.ctx.user}")
        self.fail_if("on_open", self.user)

    @rpc
    def add(self, by: int = 1) -> int:
        """Adds a number."""
        self.n += by
        return self.n

    @rpc(name="keep")
    def keep_it(self):
        self.data.set("n", self.n)
        with self.data.edit() as draft:
            draft["seen"] = True
        return [self.data.get("n"), list(self.send({"n": self.n}))]

    @rpc
    def wait(self):
        self.ctx.progress(0)
        while True:
            self.ctx.check()
            time.sleep(0.001)

    @rpc
    def hold(self):
        with self.overlap:
            time.sleep(0.01)
            return self.overlap.most

    @rpc
    def huge(self):
        return "x" * (1 << 20)

    @rpc
    def broken(self):
        raise ValueError("broken")

    def save(self):
        self.fail_if("save", self.user)
        if self.user == "large":
            return "x" * (192 * 1024 - 1)
        if self.user == "strange":
            return threading.Lock()
        return {"n": self.n, "told": self.told} if self.n else None

    def restore(self, saved, why):
        self.fail_if("restore", self.user)
        self.n, self.told = saved["n"], [*saved["told"], f"restored: {why}"]

    def on_restore(self, why):
        self.n = self.data.get("n", 0)
        self.told.append(f"rebuilt: {why}")

    def on_away(self):
        self.told.append("away")

    def on_back(self):
        self.told.append("back")

    def on_close(self):
        self.ctx.log.info("closed", page=self.page)
        self.fail_if("on_close", self.user)


class AsyncCounter(Base):
    async def on_open(self):
        await asyncio.sleep(0)
        self.told.append(f"open for {self.ctx.user}")
        self.fail_if("on_open", self.user)

    @rpc
    async def add(self, by: int = 1) -> int:
        """Adds a number."""
        n = self.n
        await asyncio.sleep(0)
        self.n = n + by
        return self.n

    @rpc(name="keep")
    async def keep_it(self):
        await self.data.set("n", self.n)
        async with self.data.edit() as draft:
            draft["seen"] = True
        return [await self.data.get("n"), list(await self.send({"n": self.n}))]

    @rpc
    async def wait(self):
        self.ctx.progress(0)
        await asyncio.sleep(600)

    @rpc
    async def hold(self):
        with self.overlap:
            await asyncio.sleep(0.01)
            return self.overlap.most

    @rpc
    async def huge(self):
        return "x" * (1 << 20)

    @rpc
    async def broken(self):
        raise ValueError("broken")

    async def save(self):
        return Counter.save(self)

    async def restore(self, saved, why):
        Counter.restore(self, saved, why)

    async def on_restore(self, why):
        self.n = await self.data.get("n", 0)
        self.told.append(f"rebuilt: {why}")

    async def on_away(self):
        self.told.append("away")

    async def on_back(self):
        self.told.append("back")

    async def on_close(self):
        self.ctx.log.info("closed", page=self.page)
        self.fail_if("on_close", self.user)


mixed.page(AsyncCounter, name="Counter")


@sync.page
@threads.page
@mixed.page
class Plain(Page):
    """A class with nothing but `on_open`."""

    def on_open(self):
        self.opened = True

    @rpc
    def has_opened(self):
        return self.opened


def from_outside(app):
    """Registers handlers that meet objects from a thread of their own."""

    def raise_it(ctx: Context, page: str, by: int):
        """Adds to a counter outside of its messages."""
        found = []

        def meet():
            try:
                with app.object(page, Base) as counter:
                    found.append(counter.n)
                    counter.n += by
            except NoObject as error:
                found.append(str(error))

        thread = threading.Thread(target=meet)
        thread.start()
        thread.join()
        return found

    def keep_busy(ctx: Context, page: str, times: int):
        """Meets an object many times from a thread that lives on."""

        def meet():
            for _ in range(times):
                with app.object(page, Base) as counter, counter.overlap:
                    time.sleep(0.001)

        threading.Thread(target=meet, daemon=True).start()

    def grab(ctx: Context, page: str):
        """Takes an object until `release`."""
        taken = threading.Event()

        def meet():
            with app.object(page, Base):
                taken.set()
                released[page].wait()

        released[page] = threading.Event()
        threading.Thread(target=meet, daemon=True).start()
        taken.wait()

    def release(ctx: Context, page: str):
        released[page].set()

    def objects(ctx: Context):
        return app.objects()

    for handler in (raise_it, keep_busy, grab, release, objects):
        app.handler(handler)


released: dict[str, threading.Event] = {}
for one in (sync, threads, mixed):
    from_outside(one)


@mixed.handler
async def meet_async(ctx, page: str):
    """Meets an object on the event loop, with the wrong and the right statement."""
    try:
        with mixed.object(page):
            pass
    except RuntimeError as error:
        said = str(error)
    async with mixed.object(page, Base) as counter, mixed.object(page) as same:
        counter.n += 10
        return [said, same is counter]


@mixed.handler
async def missing_async(ctx, page: str):
    try:
        async with mixed.object(page):
            pass
    except NoObject as error:
        raise Error("missing", str(error)) from None
