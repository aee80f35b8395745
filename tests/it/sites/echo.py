"""A WSGI application that answers with what it has understood of a request."""


def application(environ, start_response):
    body = environ["wsgi.input"].read()
    query = environ["QUERY_STRING"]
    text = f"<{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{'?' if query else ''}{query} {len(body)}>"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text.encode())))])
    return [text.encode()]
