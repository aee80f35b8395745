"""`python -m pagewire.wsgi MODULE:CALLABLE`: serves a WSGI application for a mount of Pagewire.

Owns: the choice of the server. Never: the server.
"""

from __future__ import annotations

from .serving.command import has, missing, start


def main() -> None:
    """Serves the application that the command line names."""
    begun = start("wsgi", "application", ("gunicorn", "granian"))
    server = begun.server or ("gunicorn" if has("gunicorn") else "granian" if has("granian") else "")
    if server == "gunicorn":
        from .serving import gunicorn_server

        gunicorn_server.serve(begun)
    elif server == "granian":
        from .serving import granian_server

        granian_server.serve(begun, "wsgi")
    else:
        missing("gunicorn", "granian")


if __name__ == "__main__":
    main()
