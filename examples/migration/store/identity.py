"""The user of a session, as Pagewire knows it.

A session of Django is known to Django alone. So the browser of a user who is logged in also has a token in a cookie,
which Pagewire signs and checks: by it a socket has the same user as the requests. A new password and a closed account
end what Django ends, and the sockets as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pagewire
from django.contrib.auth.models import AbstractBaseUser
from django.db.models.signals import post_save
from django.dispatch import receiver
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


class NewPassword:
    """A validator of passwords which accepts all of them. Django tells it when a user has a new one."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        """Accepts the password."""

    def get_help_text(self) -> str:
        return ""

    def password_changed(self, password: str, user: AbstractBaseUser | None = None) -> None:
        if user is not None and user.pk is not None:
            pagewire.current().end_logins(user.get_username())


@receiver(post_save)
def closed_account(sender: type, instance: Any, **_: Any) -> None:
    if issubclass(sender, AbstractBaseUser) and not instance.is_active:
        pagewire.current().end_logins(instance.get_username())
