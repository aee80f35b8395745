"""Changes the password of a user and closes the account, while the user has a page with its socket open.

Usage: python3 accounts.py URL

It needs a phase with pushes. It prints one line for each step, and ends with 1 at the first one that fails.
"""

from __future__ import annotations

import re
import sys
import time

from client import Browser, Socket

SOON = 1.0  # seconds


def ends(socket: Socket) -> bool:
    """Returns whether a socket is closed soon, by the server."""
    start = time.monotonic()
    try:
        while True:
            socket.next()
    except ConnectionError as end:
        return time.monotonic() - start < SOON and "was closed" in str(end)


class Guest(Browser):
    """A user whom ann has added."""

    def __init__(self, url: str, ann: Browser) -> None:
        super().__init__(url, f"guest{time.time_ns()}")
        self.ann, self.password = ann, "the first one"
        both = {"password1": self.password, "password2": self.password, "usable_password": "true"}
        ann.submit("/admin/auth/user/add/", username=self.user, **both)
        found = re.search(r"/admin/auth/user/(\d+)/change/\">" + self.user, ann.get(f"/admin/auth/user/?q={self.user}"))
        assert found, "the user is in the list"
        self.form = f"/admin/auth/user/{found[1]}"

    def login(self) -> None:
        self.submit("/login/", username=self.user, password=self.password)

    def change_password(self, password: str) -> None:
        both = {"password1": password, "password2": password, "usable_password": "true"}
        self.ann.submit(f"{self.form}/password/", **both)
        self.password = password

    def close_account(self) -> None:
        joined = {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"}
        self.ann.submit(f"{self.form}/change/", username=self.user, **joined)


def step(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    ann = Browser(sys.argv[1], "ann")
    ann.login()
    guest = Guest(sys.argv[1], ann)
    guest.login()
    socket = guest.open().socket()
    step("a user has a page and its socket")
    guest.change_password("the second one")
    assert ends(socket), "the socket is still open"
    assert not guest.is_logged_in()
    step("a new password ends the page and the login")
    guest.login()
    socket = guest.open().socket()
    assert socket.registered["user"] == guest.user
    step("the user logs in with the new password")
    guest.close_account()
    assert ends(socket), "the socket is still open"
    assert not guest.is_logged_in()
    step("a closed account ends the page and the login")
    assert ann.is_logged_in() and ann.open().socket().registered["user"] == "ann"
    step("others stay")


if __name__ == "__main__":
    main()
