"""What a Genropy site that has its own daemon does at its socket for pushes, without the framework: it announces pages, pushes
to them, and answers their polls.
"""

import os
import socket
from urllib.parse import parse_qs, urlencode

PAGES = set()

NEW_PAGE = (
    "<command>registerNewPage</command><data><page_id>{page}</page_id>"
    "<page_info><user>ann</user><connection_id>{connection}</connection_id></page_info></data>"
)
SET = "<command>setInClientData</command><data><value>{text}</value><path>a.b</path></data>"


def send(page_id, envelope):
    """Sends a message as the framework does: it does not read the answer."""
    form = {"page_id": page_id, "remote_service": None, "envelope": f"<GenRoBag>{envelope}</GenRoBag>"}
    body = urlencode(form).encode()
    head = f"POST /wsproxy HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["ASYNC_SOCKET"])
        connection.sendall(head.encode() + body)


def opened(asked):
    PAGES.add(asked["page"])
    send("", NEW_PAGE.format(**asked))
    return "200 OK", "opened"


def known(asked):
    """A page that the site has, and that was announced to another server."""
    PAGES.add(asked["page"])
    return "200 OK", "known"


def pushed(asked):
    send(asked["to"], SET.format(**asked))
    return "200 OK", "pushed"


def _ping(asked):
    if asked["page_id"] not in PAGES:
        return "412 Precondition Failed", "no longer existing page"
    own = f"<dataChanges><sc_0 change_path=\"own\">{asked['own']}</sc_0></dataChanges>" if "own" in asked else ""
    return "200 OK", f"<?xml version='1.0' encoding='UTF-8'?>\n<GenRoBag><result _T=\"NN\"></result>{own}</GenRoBag>"


def application(environ, start_response):
    views = {f"/{view.__name__}": view for view in (opened, known, pushed, _ping)}
    view = views.get(environ["PATH_INFO"], lambda asked: ("200 OK", "nothing here"))
    sent = environ["wsgi.input"].read().decode() + "&" + environ["QUERY_STRING"]
    status, text = view({name: values[0] for name, values in parse_qs(sent).items()})
    start_response(status, [("Content-Type", "text/xml; charset=utf-8")])
    return [text.encode()]
