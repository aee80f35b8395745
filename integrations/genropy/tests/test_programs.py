"""A program beside a site, such as `gnr web taskworker`: its requests go to the server that PAGEWIRE_URL names."""

from __future__ import annotations

import json
import multiprocessing
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pagewire.errors import Error

from conftest import Site
from pagewire_genropy import channel, siteregister_client

KEY = "a-key-of-16-letters"


class Requests(BaseHTTPRequestHandler):
    """Answers `POST /api/v1/requests/{method}` out of the register of the test."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        params = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            assert self.headers["authorization"] == f"Bearer {KEY}"
            status, answer = (
                200,
                {"value": self.server.register.ask(self.path.removeprefix("/api/v1/requests/"), params)},
            )
        except Error as error:
            status, answer = (
                409,
                {"error": {"code": error.code, "message": error.message, "retryable": error.retryable}},
            )
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def program(register, monkeypatch):
    """The register of a site in a program that no mount has started."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.register, server.daemon_threads = register, True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("PAGEWIRE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("PAGEWIRE_API_KEY", KEY)
    with monkeypatch.context() as real:
        # the processes of a mount have the register of the test itself
        real.setattr(siteregister_client, "connect", channel.connect)
        client = siteregister_client.SiteRegisterClient(Site())
    yield client
    server.shutdown()
    server.server_close()


def test_a_program_tells_the_pages_of_the_site(process, program, open_page):
    site = process()
    open_page(site, "p1", "c1", user="ann")
    site.subscribeTable(page_id="p1", table="invc.customer", subscribe=True)
    assert program.filter_subscribed_tables(["invc.customer", "invc.product"], register_name="page") == [
        "invc.customer"
    ]
    program.notifyDbEvents({"invc.customer": [{"dbevent": "U", "pkey": "1"}]}, register_name="page")
    program.setInClientData("done", "yes", filters="user:ann", register_name="page")
    told = [(change.path, change.value) for change in site.subscription_storechanges("ann", "p1")]
    assert told == [("gnr.dbchanges.invc_customer", [{"dbevent": "U", "pkey": "1"}]), ("done", "yes")]


def test_a_program_and_the_processes_that_it_forks_change_a_store_under_its_lock(process, program, open_page):
    site = process()
    open_page(site, "p1", "c1", user="ann")
    count(program, 3)
    for _ in range(2):
        forked = multiprocessing.get_context("fork").Process(target=count, args=(program, 5))
        forked.start()
        forked.join(60)
        assert forked.exitcode == 0
        count(program, 1)
    assert site.userStore("ann").getItem("count") == 15


def count(site, times):
    for _ in range(times):
        with site.userStore("ann") as store:
            store.setItem("count", (store.getItem("count") or 0) + 1)
