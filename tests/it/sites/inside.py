"""A WSGI application that makes requests of Pagewire in its own requests, and the handlers that it calls."""

import json
import os
import threading

import pagewire
from pagewire import App, Context

app = App()


@app.handler
def greet(ctx: Context, name: str):
    return {"greeting": f"hello {name}", "user": ctx.user.id}


@app.handler
def remember(ctx: Context, text: str):
    ctx.state.user.set("remembered", text)


def who(request, environ):
    return {
        "user": request.user.id,
        "page": request.page.id,
        "session": request.session.id,
        "connection": request.connection.id,
        "lane": request.lane,
        "headers": sorted(name for name in environ if name.startswith("HTTP_X_PAGEWIRE")),
    }


def push(request, environ):
    sent = request.page.send({"from": "the view", "path": environ["PATH_INFO"]})
    return {"reached": sent.reached}


def visit(request, environ):
    with request.state.user.edit() as tree:
        tree["visits"] = tree.get("visits", 0) + 1
    return {"visits": request.state.user.get("visits"), "of_ann": request.state.of("user", "ann").get("visits")}


def work(request, environ):
    job = request.jobs.submit("remember", {"text": "by a view"})
    return {"job": job, "call": request.call("greet", {"name": "view"})}


def locked(request, environ):
    with request.lock("inside", wait=10) as lock:
        request.log.info("the lock is held", token=lock.token)
        return {"token": lock.token}


def pages(request, environ):
    return {"pages": [page.id for page in request.pages(user="ann")], "none": request.pages(user="nobody")}


def close(request, environ):
    return {"closed": request.close(user="ann")}


def login(request, environ):
    request.login("ann", valid=600)
    return {"user": request.user.id}


def logout(request, environ):
    return {"closed": request.logout(), "user": request.user.id}


def changed(request, environ):
    """Ends all logins of a user, and begins one here."""
    closed = request.end_logins("ann")
    request.login("ann", valid=600)
    return {"closed": closed}


def thread(request, environ):
    """Sends to a topic from a thread that has no request."""
    results = []
    other = threading.Thread(target=lambda: results.append(pagewire.current().state.of("user", "ann").set("t", 1)))
    other.start()
    other.join()
    return {"revision": results[0], "lane": pagewire.current().lane}


def threads(request, environ):
    """Makes a hundred requests in each of eight threads at once."""
    wrong = []

    def run(number):
        for step in range(100):
            name = f"{number}-{step}"
            answer = request.call("greet", {"name": name})
            if answer["greeting"] != f"hello {name}":
                wrong.append(answer)

    all_threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for one in all_threads:
        one.start()
    for one in all_threads:
        one.join()
    return {"wrong": wrong}


def forked(request, environ):
    """Makes a request in a process that is forked from this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            request.state.of("user", "ann").get("visits")
            text = "no error"
        except pagewire.Error as error:
            text = f"{error.code}: {error.message}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    # the process that serves goes on
    return {"child": said, "value": request.state.of("user", "ann").get("nothing", 7)}


def nameless(request, environ):
    """Makes the requests that need a user or an id."""
    codes = {}
    for name, make in {
        "state": lambda: request.state.user.get(),
        "bare": lambda: pagewire.current()._ask("state.get", {"level": "user"}),
        "topic": lambda: request.send({"topic": "news"}, 1).reached,
    }.items():
        try:
            codes[name] = make()
        except pagewire.Error as error:
            codes[name] = error.code
    return codes


VIEWS = {
    f"/{view.__name__}": view
    for view in (who, push, visit, work, locked, pages, close, login, logout, changed, thread, threads, forked, nameless)
}


def application(environ, start_response):
    view = VIEWS.get(environ["PATH_INFO"])
    if view is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"nothing here"]
    body = json.dumps(view(environ["pagewire.request"], environ)).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
