"""What a Genropy site does with its register, without the framework: pages, pushes, and polls that a node makes for sockets."""

from urllib.parse import parse_qs

import pagewire


def opened(register, asked):
    fields = {"user": "ann", "connection": asked["connection"]}
    register.create("page", asked["page"], fields=fields)
    return "opened"


def pushed(register, asked):
    return str(register.publish({"page": asked["page"]}, asked["text"]))


def _ping(register, asked):
    """Returns what a poll has taken; the one of a node as the text of a frame, which is empty without news."""
    position = {"position": int(asked["position"])} if "position" in asked else {}
    taken = register.ask("take", page=asked["page_id"], **position)
    texts = [text for entry in taken["entries"] for text in entry["changes"]]
    by = "socket" if asked.get("reason") == "push" else "poll"
    return f"{by}: {' '.join(texts)}" if texts else ""


def application(environ, start_response):
    views = {f"/{view.__name__}": view for view in (opened, pushed, _ping)}
    view = views.get(environ["PATH_INFO"], lambda register, asked: "nothing here")
    asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    start_response("200 OK", [("Content-Type", "text/xml; charset=utf-8")])
    return [view(pagewire.current().register("shop"), asked).encode()]
