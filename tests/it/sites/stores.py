"""A WSGI application that keeps its state in stores and a register of Pagewire."""

import json
import os
from urllib.parse import parse_qs

import pagewire


def visit(request, asked):
    """Counts in the store of a user, under its lock."""
    with request.store("user", asked["user"]) as store:
        store["visits"] = store.get("visits", 0) + 1
        return {"visits": store["visits"], "process": os.getpid()}


def store(request, asked):
    """Uses a store without its lock."""
    kept = pagewire.current().store("global")
    kept["rate"] = 1.5
    kept["other"] = None
    del kept["other"]
    missing = "none" if "other" not in kept else "there"
    nothing = request.store("user", "nobody")
    return {"rate": kept["rate"], "names": sorted(kept), "other": missing, "nothing": len(nothing)}


def failed(request, asked):
    """Raises inside of a block."""
    try:
        with request.store("user", "eve") as store:
            store["visits"] = 99
            raise ValueError
    except ValueError:
        return {"visits": request.store("user", "eve").get("visits")}


def nameless(request, asked):
    codes = []
    for make in (lambda: request.store("user"), lambda: request.store("room", "x")):
        try:
            make()
        except pagewire.Error as error:
            codes.append(error.code)
    return {"codes": codes}


def opened(request, asked):
    """Registers a page of a user, which follows the orders."""
    register, page = request.register(), asked["page"]
    register.create("page", page, fields={"user": asked["user"], "connection": "c1"}, data={"env": [1, "ü"]})
    register.subscribe(page, tables=["orders"])
    item = register.find("page", page)
    return {"fields": item.fields, "data": item.data, "listed": [one.id for one in register.items("page")]}


def saved(request, asked):
    """Publishes an event of a table."""
    event = {"pkey": int(asked["order"]), "event": "update"}
    return {"pages": request.register().publish({"table": "orders"}, event, origin=asked.get("page"))}


def poll(request, asked):
    taken = request.register().take(asked["page"])
    changes = [change for entry in taken.entries for change in entry.changes]
    return {"changes": changes, "reset": taken.reset}


def login(request, asked):
    register = request.register()
    register.create("connection", "c1", fields={"user": asked["user"]})
    pages = register.relabel("c1", "ann", fields={"tags": "admin"}, user_fields={"name": "Ann"})
    dropped = register.drop("connection", "c1", cascade=True)
    return {"pages": pages, "dropped": dropped, "left": register.find("user", "ann")}


VIEWS = {f"/{view.__name__}": view for view in (visit, store, failed, nameless, opened, saved, poll, login)}


def application(environ, start_response):
    view = VIEWS.get(environ["PATH_INFO"])
    if view is None:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"nothing here"]
    asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    body = json.dumps(view(environ["pagewire.request"], asked)).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]
