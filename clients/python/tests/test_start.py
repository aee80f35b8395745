"""Registration of handlers, and the start of a program."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pagewire import App
from pagewire.runtime import choose, slots_of

APPS = Path(__file__).parent / "apps"


def start_alone(*arguments, path="/nowhere", folder=APPS, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAGEWIRE_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )


def run_module(target, folder=APPS):
    """Starts a child without a supervisor behind its socket."""
    variables = {"PAGEWIRE_SOCKET": "/nowhere/child.sock", "PAGEWIRE_TOKEN": "x"}
    return start_alone("-m", "pagewire", target, folder=folder, **variables)


def test_a_handler_has_the_name_of_its_function_or_its_own():
    app = App()

    @app.handler
    def one(ctx):
        return 1

    @app.handler()
    def two(ctx):
        pass

    @app.handler("three.b")
    def three(ctx):
        pass

    @app.handler("four", timeout=0.5, retries=0)
    async def four(ctx):
        pass

    assert list(app.handlers) == ["one", "two", "three.b", "four"]
    assert one(None) == 1
    assert app.handlers["four"].is_async
    described = app.handlers["four"].describe()
    assert (described["timeout_ms"], described["retries"]) == (500, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "x" * 201}, "1 to 200 bytes"),
        ({"mode": "all"}, "mode of `f` is any or assigned"),
        ({"serial": "session"}, "serial of `f` is user or page"),
        ({"timeout": 0}, "timeout of `f`"),
        ({"retries": 101}, "retries of `f`"),
    ],
)
def test_wrong_options_of_a_handler_are_refused_at_once(options, message):
    def f(ctx):
        pass

    with pytest.raises(ValueError, match=message):
        App().handler(**options)(f)


def test_two_handlers_of_one_name_are_refused():
    app = App()
    app.handler("a")(lambda ctx: 1)
    with pytest.raises(ValueError, match="two handlers with the name `a`"):
        app.handler("a")(lambda ctx: 2)


def test_a_generator_is_no_handler():
    with pytest.raises(TypeError, match="generator"):

        @App().handler
        def numbers(ctx):
            yield 1


@pytest.mark.parametrize("options", [{"slots": 0}, {"threads": -1}, {"slots": "8"}])
def test_wrong_options_of_an_application_are_refused(options):
    with pytest.raises(ValueError, match="a number from 1"):
        App(**options)


def app_with(*kinds, **options):
    app = App(**options)

    def plain(ctx):
        pass

    async def waits(ctx):
        pass

    for kind in kinds:
        app.handler(kind)(plain if kind == "sync" else waits)
    return app


@pytest.mark.parametrize(
    ("app", "welcome", "loop"),
    [
        (app_with("sync", threads=1), 8, "BlockingLink"),
        (app_with("sync"), 1, "BlockingLink"),
        (app_with("sync"), 8, "ThreadLink"),
        (app_with("sync", "async"), 1, "AsyncLink"),
        (app_with("async", threads=1), 8, "AsyncLink"),
    ],
)
def test_the_loop_is_chosen_by_the_handlers(app, welcome, loop):
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert type(choose(app, (ours, None, {"slots": welcome}, app.handlers))).__name__ == loop


def test_the_number_of_slots_is_that_of_the_pool_unless_the_application_names_it():
    assert slots_of(app_with("sync")) is None
    assert slots_of(app_with("sync", threads=1)) == 1
    assert slots_of(app_with("async", threads=1)) is None
    assert slots_of(app_with("sync", threads=1, slots=4)) == 4


def test_the_traceback_of_a_failing_import_is_printed():
    done = run_module("broken_import:app")
    assert done.returncode == 1
    assert 'raise RuntimeError("no database")' in done.stderr
    assert "pagewire: the module `broken_import` cannot be imported" in done.stderr
    assert "pagewire/__main__.py" not in done.stderr


def test_a_syntax_error_is_shown_with_its_line():
    done = run_module("broken_syntax:app")
    assert done.returncode == 1
    assert "def f(:" in done.stderr


def test_a_package_that_is_not_installed_is_named():
    done = run_module("needs_missing:app")
    assert done.returncode == 1
    assert "No module named 'a_package_that_is_not_installed'" in done.stderr
    assert "import a_package_that_is_not_installed" in done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("worc:app", "there is no module `worc`"),
        ("worc:app", "did you mean `work`?"),
        ("script:app", "script:app: there is no `app`: did you mean `board`?"),
        ("work:treads", "there is no `treads`: did you mean `threads`?"),
        ("work:Point", "work:Point is a type, no pagewire.App: did you mean `work:sync`?"),
        ("broken_types:app", "handler `use`: Thing is no type that JSON can be checked against"),
    ],
)
def test_a_wrong_name_says_what_is_there(target, message):
    done = run_module(target)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_hides_the_own_one_is_named(tmp_path):
    (tmp_path / "site.py").write_text("app = 1\n")
    done = run_module("site:app", folder=tmp_path)
    assert done.returncode == 1
    assert "there is no `app`" in done.stderr
    assert "site.py has the same name as your module)" in done.stderr


def test_a_child_without_a_supervisor_says_so():
    done = run_module("script:board")
    assert done.returncode == 1
    assert "no connection to the supervisor" in done.stderr


def test_a_wrong_command_line_shows_the_usage():
    assert "usage: python -m pagewire module:attribute" in start_alone("-m", "pagewire").stderr


@pytest.mark.parametrize("arguments", [("script.py",), ("-m", "script"), ("-m", "pagewire", "script:board")])
def test_a_program_alone_says_how_to_start_it(arguments):
    done = start_alone(*arguments)
    assert done.returncode == 1
    assert "pagewire dev script:board" in done.stderr


@pytest.mark.parametrize("arguments", [("script.py",), ("-m", "script"), ("-m", "pagewire", "script:board")])
def test_a_program_alone_starts_pagewire_dev(arguments, tmp_path):
    program = tmp_path / "pagewire"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    done = start_alone(*arguments, path=f"{tmp_path}:/usr/bin:/bin")
    assert done.stdout == "dev script:board\n"


def test_a_script_is_a_child_as_well(start):
    child = start("", command=[sys.executable, "script.py"])
    assert child.call("hello", {"name": "Ada"})["value"] == "hello Ada"


def test_the_start_imports_no_slow_module():
    code = "import sys, pagewire.runtime, pagewire.loop_threads, pagewire.loop_blocking; print(*sys.modules)"
    loaded = set(start_alone("-c", code).stdout.split())
    assert "pagewire.link" in loaded
    assert not loaded & {"asyncio", "inspect", "http.client", "dataclasses", "logging", "orjson", "pydantic", "random"}


def test_the_package_has_exactly_its_public_names():
    import pagewire

    assert sorted(pagewire.__all__) == [
        "App",
        "AsyncClient",
        "AsyncContext",
        "Cancelled",
        "Client",
        "Conflict",
        "Context",
        "Error",
        "Fail",
        "NoObject",
        "OpenPage",
        "Page",
        "ProgramClient",
        "Retry",
        "WebClient",
        "WebRequest",
        "__version__",
        "connect",
        "current",
        "rpc",
    ]
    assert all(hasattr(pagewire, name) for name in pagewire.__all__)
    with pytest.raises(AttributeError):
        _ = pagewire.nothing


@pytest.mark.parametrize("arguments", [["-m", "pagewire", "unguarded:app"], ["unguarded.py"]])
def test_a_module_that_runs_its_application_when_it_is_imported_is_a_child(start, arguments):
    child = start("", command=[sys.executable, *arguments])
    assert child.call("hello")["value"] == "hello"
    child.send({"t": "drain", "within_ms": 1000})
    assert child.exit() == 0
    assert child.output() == ""
