"""Resident pages of the tests: a counter that is kept in memory."""

import os
import time

from pagewire import App, Page, rpc

app = App()


@app.page
class Counter(Page):
    def on_open(self):
        self.n = 0
        self.events = ["open"]

    @rpc
    def add(self, by: int = 1) -> dict:
        self.n += by
        return self.seen()

    @rpc
    def keep(self, name: str = "n") -> dict:
        """Writes the count into the state trees of the page and its user."""
        self.data.set(name, self.n)
        if self.user is not None:
            self.ctx.state.user.set("counter", self.n)
        return self.seen()

    @rpc
    def slow(self, ms: int = 100) -> dict:
        """Takes time between reading and writing, which another message of the page would disturb."""
        n = self.n
        time.sleep(ms / 1000)
        self.n = n + 1
        return self.seen()

    @rpc
    def late(self, file: str, name: str, value: int) -> str:
        """Writes state after a file has appeared, and returns what became of that."""
        with open(file + ".begun", "w"):
            pass
        while not os.path.exists(file):
            time.sleep(0.01)
        try:
            self.data.set(name, value)
            outcome = "written"
        except BaseException as error:
            outcome = getattr(error, "code", type(error).__name__)
        with open(file + ".outcome", "w") as out:
            out.write(outcome)
        return outcome

    @rpc
    def die(self):
        os._exit(7)

    @rpc(concurrent=True)
    def peek(self) -> dict:
        return self.seen()

    def seen(self):
        release = os.environ.get("RELEASE", "")
        return {"n": self.n, "pid": os.getpid(), "user": self.user, "events": self.events, "release": release}

    def on_away(self):
        self.events.append("away")

    def on_back(self):
        self.events.append("back")

    def on_close(self):
        file = os.environ.get("CLOSED")
        if file:
            with open(file, "a") as out:
                out.write(f"{self.page} {self.n}\n")

    def save(self):
        return {"n": self.n, "events": self.events}

    def restore(self, saved, why):
        self.n, self.events = saved["n"], [*saved["events"], f"restored {why}"]

    def on_restore(self, why):
        self.n, self.events = self.data.get("n", 0), [f"rebuilt {why}"]


@app.handler
def who(ctx) -> dict:
    return {"user": ctx.user.id, "pid": os.getpid()}


def application(environ, start_response):
    """A WSGI view that raises the counter of the page in the path."""
    page = environ["PATH_INFO"].strip("/")
    with app.object(page) as counter:
        counter.n += 1000
        text = f"{counter.n} {os.getpid()}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
