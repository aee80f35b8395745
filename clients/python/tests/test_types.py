"""The types of the package, as a program with type hints sees them."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]

PROGRAM = """
from pagewire import App, AsyncClient, AsyncContext, Client, Context, Page, rpc
from pagewire.testing import Harness

app = App()

@app.handler("report", mode="assigned", timeout=600, retries=5, serial="user")
def report(ctx: Context, month: str) -> dict[str, str]:
    for number in ctx.track([1, 2]):
        reveal_type(number)
    reveal_type(ctx.page.send(1))
    reveal_type(ctx.jobs.submit("x"))
    with ctx.state.user.edit() as draft:
        draft["a"] = 1
    with ctx.lock("a") as lock:
        reveal_type(lock.token)
    return {}

@app.handler
async def search(ctx: AsyncContext, q: str) -> int:
    reveal_type(await ctx.page.send(1))
    reveal_type(await ctx.state.user.read("a"))
    async with ctx.state.user.edit() as draft:
        draft["a"] = 1
    return await ctx.state.user.set("a", 1)

@app.page
class Counter(Page):
    n: int

    def on_open(self) -> None:
        self.n = 0

    @rpc
    def add(self, by: int = 1) -> int:
        self.n += by
        self.data.set("n", self.n)
        with self.data.edit() as draft:
            draft["n"] = 1
        return self.n

    @rpc(timeout=5, concurrent=True)
    async def later(self) -> None:
        await self.send({"n": self.n})
        async with self.ctx.state.user.edit() as draft:
            draft["n"] = 1

    async def on_away(self) -> None:
        self.ctx.log.info("away")

    def save(self) -> dict[str, int]:
        return {"n": self.n}

    def restore(self, saved: dict[str, int], why: str) -> None:
        self.n = saved["n"]

@app.page(name="Second")
class Other(Counter):
    pass

with app.object("p", Counter) as counter:
    reveal_type(counter)
    reveal_type(counter.add(1))
reveal_type(Harness(app).open(Counter).call("add"))

reveal_type(report)
reveal_type(Client().jobs.submit("x"))

async def use() -> None:
    reveal_type(await AsyncClient().stats())

reveal_type(Harness(app).job("x").state)
"""

REVEALED = [
    "int",
    "Reach",
    "str",
    "int",
    "Reach",
    "Reading",
    "Counter",
    "int",
    "Any",
    "def (ctx: pagewire.context.Context, month: str)",
    "str",
    "dict[str, Any]",
    "str",
]


def mypy(*arguments, cwd):
    cache = f"--cache-dir={PROJECT.parents[1] / '.tools/mypy'}"
    return subprocess.run([sys.executable, "-m", "mypy", cache, *arguments], cwd=cwd, capture_output=True, text=True)


def test_the_package_passes_mypy_strict():
    pytest.importorskip("mypy")
    done = mypy(cwd=PROJECT)
    assert done.returncode == 0, done.stdout


def test_a_program_sees_the_types_of_requests(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(PROGRAM)
    done = mypy("--strict", "program.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    shown = [line.split('Revealed type is "', 1)[1] for line in done.stdout.splitlines() if "Revealed" in line]
    assert len(shown) == len(REVEALED)
    for text, expected in zip(shown, REVEALED):
        assert expected in text
