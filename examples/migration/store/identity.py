"""The user of a session, as Pagewire knows it.

A session of Django is known to Django alone. So the browser of a user who is logged in also has a token in a cookie,
which Pagewire signs and checks: by it a socket has the same user as the requests.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

Handler = Callable[[HttpRequest], HttpResponse]


def same_user(get_response: Handler) -> Handler:
    """Middleware that gives the token to a browser whose user has logged in, and takes it back at the logout."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        pagewire, user = request.environ["pagewire.request"], request.user.get_username()
        if user and pagewire.user.id != user:
            pagewire.login(user, valid=request.session.get_expiry_age())
        elif pagewire.user and not user:
            pagewire.logout()
        return response

    return answer
