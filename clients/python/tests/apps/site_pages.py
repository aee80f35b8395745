"""Web applications whose views meet the objects of resident pages, and the pages: run with `--app site_pages:app`."""

import json
import threading

from pagewire import App, AsyncContext, Context, NoObject, Page, rpc

app = App()
mixed = App()


class Counter(Page):
    def on_open(self):
        self.n = 0

    @rpc
    def add(self, by: int = 1):
        self.n += by
        return [self.n, threading.current_thread() is threading.main_thread()]

    def save(self):
        return self.n

    def restore(self, saved, why):
        self.n = saved


class Later(Counter):
    @rpc
    async def add(self, by: int = 1):
        self.n += by
        return [self.n, threading.current_thread() is threading.main_thread()]


app.page(Counter)
mixed.page(Later, name="Counter")


@app.handler
def double(ctx: Context, n: int):
    return 2 * n


@mixed.handler("double")
async def double_later(ctx: AsyncContext, n: int):
    return 2 * n


def shown(counter):
    counter.n += 100
    return json.dumps({"n": counter.n}).encode()


def application(environ, start_response):
    """Adds 100 to the counter of the page in the query string."""
    try:
        with apps().object(environ["QUERY_STRING"], Counter) as counter:
            body, status = shown(counter), "200 OK"
    except NoObject as error:
        body, status = str(error).encode(), "404 Not Found"
    start_response(status, [("Content-Type", "application/json")])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    await receive()
    try:
        async with apps().object(scope["query_string"].decode(), Counter) as counter:
            body, status = shown(counter), 200
    except NoObject as error:
        body, status = str(error).encode(), 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


def apps():
    return mixed if mixed.objects() else app


app.run()  # does nothing here: the server runs the application
