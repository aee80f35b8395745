"""Web applications as children of Pagewire: a server of the application's virtualenv on a private Unix socket.

Owns: how a server is started and joins the child wire. Never: HTTP, which the server does.
"""
