"""Web applications as children: real servers on a private Unix socket, joined to the child wire."""

import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import threading

import pytest

from pagewire.serving.wsgi_environ import server_of
from sites import ASGI, WSGI
from supervisor import TESTS


@pytest.mark.parametrize(
    ("host", "scheme", "server"),
    [
        ("a.example", "http", ("a.example", "80")),
        ("a.example:8443", "https", ("a.example", "8443")),
        ("[::1]", "https", ("[::1]", "443")),
        ("[::1]:81", "http", ("[::1]", "81")),
        ("", "http", ("localhost", "80")),
    ],
)
def test_the_server_of_a_request_is_that_of_its_host(host, scheme, server):
    assert server_of({"HTTP_HOST": host, "wsgi.url_scheme": scheme}) == server


def test_the_process_that_serves_says_ready_with_http_and_its_threads(wsgi):
    site = wsgi("site_wsgi", "--threads", "3")
    ready = site.child.ready
    assert (ready["features"], ready["slots"], ready["methods"]) == (["http"], 3, [])
    assert site.shown("/environ")["pid"] == ready["pid"]


def test_only_the_user_of_the_process_can_connect_to_its_socket(wsgi):
    site = wsgi("site_wsgi")
    mode = os.stat(site.path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_the_application_sees_the_client_and_the_scheme_that_pagewire_names(wsgi):
    seen = wsgi("site_wsgi").shown("/environ", X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https")
    assert (seen["REMOTE_ADDR"], seen["url_scheme"]) == ("203.0.113.7", "https")
    assert (seen["SCRIPT_NAME"], seen["HTTP_HOST"]) == ("", "site.example")
    assert (seen["SERVER_NAME"], seen["SERVER_PORT"], "REMOTE_PORT" in seen) == ("site.example", "443", False)


def test_the_secrets_of_the_child_are_not_in_the_environment_of_the_application(wsgi):
    seen = wsgi("site_wsgi").shown("/environ")
    secrets = {"PAGEWIRE_SOCKET", "PAGEWIRE_TOKEN", "PAGEWIRE_HTTP_SOCKET"}
    assert not secrets.intersection(seen)


def test_the_application_is_mounted_below_its_script_name(wsgi):
    site = wsgi("site_wsgi", PAGEWIRE_SCRIPT_NAME="/shop")
    seen = site.shown("/shop/environ")
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"]) == ("/shop", "/environ")
    assert site.get("/shopping/environ")[0] == 404


def test_the_servers_keep_the_rules_of_wsgi(wsgi):
    site = wsgi("site_wsgi:valid", PAGEWIRE_SCRIPT_NAME="/shop")
    for _ in range(3):
        assert site.get("/shop/environ", X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https")[0] == 200
    assert site.get("/shop")[0] == 404
    connection = site.connect()
    connection.request("POST", "/shop/upload", body=b"x" * 100_000)
    assert connection.getresponse().read() == b"100000"


def test_a_factory_makes_the_application(wsgi):
    assert wsgi("site_wsgi:create()").get("/environ")[0] == 200


def test_an_answer_is_streamed_while_the_application_writes_it(wsgi, tmp_path):
    gate = tmp_path / "gate"
    connection = wsgi("site_wsgi").connect()
    connection.request("GET", f"/stream?{gate}")
    response = connection.getresponse()
    assert response.read(5) == b"first"
    gate.touch()
    assert response.read() == b"second"


def test_a_chunked_upload_arrives_whole(wsgi):
    connection = wsgi("site_wsgi").connect()
    parts = (b"x" * 70_000 for _ in range(20))
    connection.request("POST", "/upload", body=parts, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().read() == b"1400000"


def test_a_request_that_runs_ends_before_the_process(wsgi, tmp_path):
    gate = tmp_path / "gate"
    site = wsgi("site_wsgi")
    connection = site.connect()
    connection.request("GET", f"/stream?{gate}")
    response = connection.getresponse()
    assert response.read(5) == b"first"
    site.child.send({"t": "drain", "within_ms": 5000})
    while reads(site.child):  # until it has seen the request to end
        pass
    gate.touch()
    assert response.read() == b"second"
    assert site.child.exit() == 0


def reads(child):
    try:
        child.send({"t": "ping"})
    except OSError:
        return False
    return True


def test_a_kept_connection_does_not_prevent_the_end(wsgi):
    site = wsgi("site_wsgi")
    connection = site.connect()
    connection.request("GET", "/environ")
    connection.getresponse().read()
    site.child.send({"t": "drain", "within_ms": 5000})
    assert site.child.exit() == 0


def test_the_process_ends_if_another_thread_receives_sigterm(serve):
    site = serve("wsgi", "granian", "site_wsgi:deaf()")
    site.child.send({"t": "drain", "within_ms": 5000})
    assert site.child.exit() == 0


def test_the_process_ends_with_its_supervisor(wsgi):
    site = wsgi("site_wsgi")
    site.child.sock.shutdown(socket.SHUT_RDWR)
    site.child.exit()
    with pytest.raises(OSError):
        site.get("/environ")


def test_a_process_that_is_killed_closes_the_wire(wsgi):
    site = wsgi("site_wsgi")
    os.kill(site.child.ready["pid"], signal.SIGKILL)
    assert site.child.exit() != 0


def test_a_child_that_serves_http_answers_pings(wsgi):
    site = wsgi("site_wsgi")
    site.child.send({"t": "ping"})
    site.child.wait(lambda message: message["t"] == "pong")


def test_an_asgi_application_starts_serves_and_ends(asgi):
    site = asgi("site_asgi", PAGEWIRE_SCRIPT_NAME="/api")
    seen = site.shown("/api/orders", X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https")
    assert seen["client"] == ["203.0.113.7", 0]
    assert (seen["scheme"], seen["root_path"], seen["path"]) == ("https", "/api", "/api/orders")
    assert (seen["started"], seen["pid"]) == (1, site.child.ready["pid"])
    assert stat.S_IMODE(os.stat(site.path).st_mode) == 0o600
    site.child.send({"t": "drain", "within_ms": 5000})
    assert site.child.exit() == 0
    assert "the application has ended" in site.child.output()


def test_an_asgi_application_without_a_lifespan_is_served(asgi):
    assert asgi("site_asgi:without_lifespan").shown("/")["started"] == 0


def meets_pages(site):
    """Opens a page in a process that serves, and adds to its object from the wire and from a view."""
    child = site.child
    ready = child.ready
    assert (ready["features"], [one["name"] for one in ready["methods"]]) == (["http"], ["double"])
    assert [one["name"] for one in ready["pages"]] == ["Counter"]
    assert child.call("double", [4])["value"] == 8
    assert site.get("/?p")[0] == 404
    assert child.tell("open")["t"] == "result"
    assert child.rpc("add")["value"] == [1, False]
    assert site.shown("/?p")["n"] == 101
    assert child.rpc("add", [2])["value"] == [103, False]
    assert child.tell("save", why="drain")["value"] == 103
    assert site.get("/?p") == (404, b"the page p has no `Counter` in this process")
    child.send({"t": "drain", "within_ms": 5000})
    assert child.exit() == 0


@pytest.mark.parametrize("app", ["app", "mixed"])
def test_the_views_of_a_process_meet_the_objects_of_its_pages(wsgi, app):
    meets_pages(wsgi("site_pages", "--app", f"site_pages:{app}"))


def test_a_process_with_one_thread_runs_pages_as_well(wsgi):
    meets_pages(wsgi("site_pages", "--app", "site_pages:app", "--threads", "1"))


@pytest.mark.parametrize("app", ["app", "mixed"])
def test_async_views_meet_the_objects_of_pages(asgi, app):
    meets_pages(asgi("site_pages:asgi", "--app", f"site_pages:{app}"))


def test_requests_and_messages_have_an_object_one_after_the_other(wsgi):
    site = wsgi("site_pages", "--app", "site_pages")
    site.child.tell("open")
    numbers = []
    threads = [threading.Thread(target=lambda: site.shown("/?p")) for _ in range(8)]
    for thread in threads:
        thread.start()
        numbers.append(site.child.begin_rpc("add"))
    for thread in threads:
        thread.join()
    assert all(site.child.end(number)["t"] == "result" for number in numbers)
    assert site.child.rpc("add", [0])["value"][0] == 808


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        ("nowhere", "there is no module `nowhere`"),
        ("site_pages:ap", "there is no `ap`"),
        ("site_wsgi:application", "is a function, no pagewire.App"),
        ("broken_types:app", "pagewire: handler"),
    ],
)
@pytest.mark.parametrize(("kind", "server"), [("wsgi", "gunicorn"), ("wsgi", "granian"), ("asgi", "uvicorn")])
def test_an_application_beside_a_site_that_cannot_start_is_explained(kind, server, app, reason, tmp_path):
    code, errors = ended(kind, server, f"site_{kind}", tmp_path, arguments=["--app", app])
    assert code != 0 and reason in errors


def ended(kind, server, target, folder, arguments=(), **variables):
    """Starts a child that cannot start, and returns its exit code and its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAGEWIRE_")}
    environment |= {name: str(folder / name) for name in ("PAGEWIRE_SOCKET", "PAGEWIRE_HTTP_SOCKET")}
    done = subprocess.run(
        [sys.executable, "-m", f"pagewire.{kind}", target, *(["--server", server] if server else []), *arguments],
        cwd=TESTS / "apps",
        env={**environment, "PAGEWIRE_TOKEN": "x", **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("server", WSGI)
def test_an_application_that_cannot_be_imported_shows_its_traceback(server, tmp_path):
    code, errors = ended("wsgi", server, "broken_import", tmp_path)
    assert code != 0
    assert "Traceback" in errors and "broken_import.py" in errors
    assert "pagewire: the module `broken_import` cannot be imported" in errors


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nowhere", "there is no module `nowhere`"),
        ("site_wsgi:aplication", "there is no `aplication`: did you mean `application`?"),
        ("site_wsgi:not_callable", "is a int, which cannot be called"),
    ],
)
def test_an_application_that_is_not_there_is_explained(target, reason, tmp_path):
    code, errors = ended("wsgi", "gunicorn", target, tmp_path)
    assert code == 1 and reason in errors


@pytest.mark.parametrize("server", ASGI)
def test_an_asgi_application_that_fails_to_start_ends_its_process(server, tmp_path):
    code, errors = ended("asgi", server, "site_asgi:fails_to_start", tmp_path)
    assert code != 0 and "no database" in errors


def test_a_server_that_is_not_installed_is_named(tmp_path):
    """A folder of a package that cannot be found stands for a virtualenv without it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.abc, sys\n"
        "class Without(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        return None\n"
        "for finder in list(sys.meta_path):\n"
        "    found = getattr(finder, 'find_spec', None)\n"
        "    def hidden(name, *rest, found=found):\n"
        "        return None if name in ('gunicorn', 'granian', 'uvicorn') else found(name, *rest)\n"
        "    finder.find_spec = hidden\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for kind, server, package in [
        ("wsgi", "gunicorn", "gunicorn"),
        ("wsgi", "granian", "granian"),
        ("wsgi", "", "gunicorn or granian"),
        ("asgi", "", "granian or uvicorn"),
    ]:
        code, errors = ended(kind, server, f"site_{kind}", tmp_path, PYTHONPATH=path)
        assert code == 1 and f"pagewire: {package} is not installed" in errors and "-m pip install" in errors
        assert "or set server_venv" in errors
        code, errors = ended(kind, server, f"site_{kind}", tmp_path, PYTHONPATH=path, PAGEWIRE_SERVER_VENV=sys.prefix)
        assert code == 1 and f"pagewire: {package} is not installed in {sys.prefix} or {sys.prefix}" in errors
        assert "server_venv" not in errors


def test_a_virtualenv_of_another_python_has_no_server(tmp_path):
    (tmp_path / "lib/python2.7/site-packages").mkdir(parents=True)
    code, errors = ended("wsgi", "", "site_wsgi", tmp_path, PAGEWIRE_SERVER_VENV=str(tmp_path))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert code == 1 and "server_venv has no folder" in errors
    assert f"it has to be a virtualenv of Python {version}" in errors


def test_packages_of_another_virtualenv_are_behind_those_of_the_application(wsgi, tmp_path):
    added = pathlib.Path(sysconfig.get_path("purelib", "posix_prefix", {"base": str(tmp_path)}))
    added.mkdir(parents=True)
    for package in WSGI:
        (added / f"{package}.py").write_text("raise ImportError('not the server of the application')")
    site = wsgi("site_wsgi:path", PAGEWIRE_SERVER_VENV=str(tmp_path))
    assert site.shown("/")[-1] == str(added)


def test_a_start_without_a_mount_is_explained():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAGEWIRE_")}
    command = [sys.executable, "-m", "pagewire.wsgi", "site_wsgi"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "is started by a mount of Pagewire" in done.stderr
