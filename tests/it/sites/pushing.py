"""What a Genropy site does with its register, without the framework: pages, pushes, and polls that a node makes for sockets."""

from urllib.parse import parse_qs

import pagewire

NOTHING = "<?xml version='1.0' encoding='UTF-8'?>\n<GenRoBag><result _T=\"NN\"></result></GenRoBag>"
polls: list[str] = []


def opened(register, asked):
    fields = {"user": "ann", "connection": asked["connection"]}
    register.create("user", "ann", replace=True)
    register.create("connection", asked["connection"], fields={"user": "ann"}, replace=True)
    register.create("page", asked["page"], fields=fields)
    return "opened"


def polled(register, asked):
    """Returns how many polls of the page this process has answered."""
    return str(polls.count(asked["page"]))


def pushed(register, asked):
    return str(register.publish({"page": asked["page"]}, asked["text"]))


def _ping(register, asked):
    """Returns what a poll has taken; the one of a node as the text of a frame, which is empty without news."""
    position = {"position": int(asked["position"])} if "position" in asked else {}
    taken = register.ask("take", page=asked["page_id"], **position)
    texts = [text for entry in taken["entries"] for text in entry["changes"]]
    if asked.get("reason") == "push":
        return f"socket: {' '.join(texts)}" if texts else ""
    polls.append(asked["page_id"])
    return f"poll: {' '.join(texts)}" if texts else NOTHING


def application(environ, start_response):
    views = {f"/{view.__name__}": view for view in (opened, pushed, polled, _ping)}
    view = views.get(environ["PATH_INFO"], lambda register, asked: "nothing here")
    asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    answer = view(pagewire.current().register("shop"), asked).encode()
    headers = [("Content-Type", "text/xml; charset=utf-8"), ("Content-Length", str(len(answer)))]
    start_response("200 OK", headers)
    return [answer]
