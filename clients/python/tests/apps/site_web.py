"""A WSGI application that makes requests of Pagewire, and shows what came of them."""

import json
import os
import threading

import pagewire
from pagewire import App

app = App(threads=1)

try:
    pagewire.current().state.of("user", "ada").get()
    AT_IMPORT = "no error"
except pagewire.Error as error:
    AT_IMPORT = error.code


@app.handler
def inner(ctx):
    return ctx.call("echo", "of the handler")


both = App()


@both.handler
async def waits(ctx):
    try:
        return pagewire.current().call("echo")
    except pagewire.Error as error:
        return error.code


def view(request, path):
    if path == "/import":
        return AT_IMPORT
    if path == "/who":
        return [request.user.id, request.page.id, request.session.id, request.connection.id, request.lane]
    if path == "/page":
        return [request.page.id, bool(request.page), request.page.id]
    if path == "/state":
        request.state.user.set("a", 1)
        request.state.of("user", "bob").get("b")
        request.state.page.get("c")
        return None
    if path == "/work":
        request.call("echo", "x")
        request.call("echo", "x", user=None)
        request.jobs.submit("report", user="bob")
        pagewire.current().call("echo", "y")
        return None
    if path == "/log":
        request.log.info("said", n=1)
        return None
    if path == "/pages":
        return [request.find_page("p|p01"), request.pages(user="ada", limit=5), request.close(connection="c")]
    if path == "/login":
        request.login("ada@ä", valid=60)
        return request.user.id
    if path == "/logout":
        return [request.logout(), request.user.id, request.page.id]
    if path == "/changed":
        return request.end_logins("ada")
    if path == "/fork":
        return forked(request)
    if path == "/thread":
        begun = threading.Thread(target=lambda: pagewire.current().call("late"), daemon=True)
        begun.start()
        return None
    return request.call("echo", path)


def forked(request):
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            request.call("echo")
        except pagewire.Error as error:
            os.write(writing, error.code.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def application(environ, start_response):
    try:
        value = view(environ["pagewire.request"], environ["PATH_INFO"])
    except pagewire.Error as error:
        value = {"code": error.code, "message": error.message}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(value).encode()]
