"""`python -m pagewire.asgi MODULE:CALLABLE`: serves an ASGI application for a mount of Pagewire.

Owns: the choice of the server. Never: the server.
"""

from __future__ import annotations

from .serving.command import has, missing, start


def main() -> None:
    """Serves the application that the command line names."""
    begun = start("asgi", "app", ("granian", "uvicorn"))
    server = begun.server or ("granian" if has("granian") else "uvicorn" if has("uvicorn") else "")
    if server == "granian":
        from .serving import granian_server

        granian_server.serve(begun, "asgi")
    elif server == "uvicorn":
        from .serving import uvicorn_server

        uvicorn_server.serve(begun)
    else:
        missing("granian", "uvicorn")


if __name__ == "__main__":
    main()
