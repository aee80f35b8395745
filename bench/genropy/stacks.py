"""The stacks of a site: its daemon with gunicorn, with a node in the place of gunicorn, and with nodes alone.

Owns: their processes and addresses. Never: browsers.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request

from installation import environment, instance, package

# the address of the daemon in the configuration that `initgenropy` writes
DAEMON = 40404


def configuration(site, address, processes=2, register="", cluster="", pushes=None, keep="", sticky=""):
    """Returns the configuration of a node with the site at `/`: with its daemon, with the `register` of Pagewire, or both.
    `pushes` is the socket at which a site with its daemon pushes to its pages, `keep` what a site keeps between requests, and
    `sticky` what decides the process of a request.
    """
    framework = package(site)
    folders = {
        "/_dojo/11": framework / "dojo_libs/dojo_11",
        "/_gnr/11": framework / "gnrjs/gnr_d11",
        "/_rsrc/common": framework / "resources/common",
        "/_rsrc/js_libs": framework / "resources/js_libs",
        "/_site": instance(site) / "site",
    }
    names = ("HOME", "GNR_LOCAL_PROJECTS", "PYTHONWARNINGS")
    given = {**{name: environment(site)[name] for name in names}, **({"GENROPY_KEEP": keep} if keep else {})}
    variables = ", ".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
    kept = f"register = {json.dumps(register)}\n" if register else ""
    if register != "genropy":
        kept += f'needs = ["tcp:127.0.0.1:{DAEMON}"]'
    if pushes:
        kept += f"\nasync_socket = {json.dumps(str(pushes))}"
    if sticky:
        kept += f"\nsticky = {json.dumps(sticky)}"
    text = f"""listen = "{address}"
{cluster}
[[mount]]
path = "/"
wsgi = "wsgi:application"
venv = {json.dumps(str(site / "v"))}
directory = {json.dumps(str(instance(site)))}
processes = {processes}
threads = 4
{kept}
env = {{ {variables} }}

[[mount.cache]]
files = "*"
value = "public, max-age=5356800"
"""
    for path, folder in folders.items():
        text += f'\n[[mount.static]]\npath = "{path}"\ndirectory = {json.dumps(str(folder))}\n'
    return text


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % listener.getsockname()[1]


def until(what, holds, patience=60):
    """Waits until a check returns something true, and returns that."""
    end, reason = time.monotonic() + patience, None
    while time.monotonic() < end:
        try:
            if found := holds():
                return found
        except Exception as error:  # the check says what it waits for
            reason = error
        time.sleep(0.05)
    raise TimeoutError(f"{what}: {reason}")


@contextlib.contextmanager
def process(command, log, **options):
    """Runs a process, and ends it with all that it has started: the daemon leaves its own processes behind."""
    with open(log, "wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        yield child
    finally:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def accepts(port):
    # the daemon serves no other client while a connection says nothing
    socket.create_connection(("127.0.0.1", port)).close()
    return True


def answers(url):
    return urllib.request.urlopen(url, timeout=20).status == 200


def start_plain(stack, site, scratch):
    """Starts the daemon and gunicorn, and returns their URL."""
    start_daemon(stack, site, scratch)
    return start_gunicorn(stack, site, scratch)


def start_daemon(stack, site, scratch):
    """Starts the daemon, and waits until it accepts connections."""
    command = [site / "v/bin/gnr", "web", "daemon", "-H", "127.0.0.1"]
    stack.enter_context(process(command, scratch / "daemon.log", env=environment(site), cwd=instance(site)))
    until("the daemon", lambda: accepts(DAEMON))


def start_gunicorn(stack, site, scratch):
    """Starts gunicorn with the site, and returns its URL."""
    address = free_address()
    gunicorn = [site / "v/bin/gunicorn", "-k", "gthread", "-w", "2", "--threads", "4", "-b", address, "wsgi:application"]
    stack.enter_context(process(gunicorn, scratch / "gunicorn.log", env=environment(site), cwd=instance(site)))
    return ready(f"http://{address}")


def start_node(stack, site, pagewire, folder, **options):
    """Starts a node with the site, and returns its URL."""
    address = free_address()
    folder.mkdir(parents=True)
    (folder / "pagewire.toml").write_text(configuration(site, address, **options))
    stack.enter_context(process([pagewire, "serve"], folder / "pagewire.log", cwd=folder))
    return ready(f"http://{address}")


def ready(url):
    """Waits until a stack answers, and returns its URL."""
    until(url, lambda: answers(url))
    return url


@contextlib.contextmanager
def running(site, pagewire, scratch):
    """Starts the daemon and both stacks, and returns the URLs: the plain one, and that of Pagewire."""
    with contextlib.ExitStack() as stack:
        plain = start_plain(stack, site, scratch)
        yield [plain, start_node(stack, site, pagewire, scratch / "node")]
