"""The requests of the store room."""

from __future__ import annotations

import functools
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.crypto import salted_hmac
from django.views.decorators.http import require_GET, require_POST

from .models import NotEnough
from .pages import StorePage, page_of
from .push import TOPIC, publish
from .register import Gone, Keys, register

if settings.STORE_RESIDENT:
    from .resident import page_of  # noqa: F811


def keys_of(request: HttpRequest, page: str) -> Keys:
    """Returns the ids of a page. That of the connection is the same for all requests of a session."""
    connection = salted_hmac("store.connection", request.session.session_key).hexdigest()[:22]
    return Keys(page, connection, request.user.get_username())


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """A new page, in the connection of this browser's session."""
    keys = keys_of(request, secrets.token_hex(11))
    store = register()
    store.open(keys)
    options = {"page": keys.page, "topic": TOPIC if settings.STORE_PUSH else None}
    if settings.STORE_RESIDENT:
        options |= {"resident": "StoreTab", "connection": keys.connection}
    return render(request, "store/page.html", {"settings": options, "shown": StorePage(store, keys).shown()})


def of_page(view: Callable[..., dict]) -> Callable[..., HttpResponse]:
    """Gives a view the page that the request names, and makes its result an answer."""

    @functools.wraps(view)
    def answer(request: HttpRequest, page: str, **arguments: str) -> HttpResponse:
        if not request.user.is_authenticated:
            return JsonResponse({"error": "log in first"}, status=401)
        keys = keys_of(request, page)
        try:
            start = time.perf_counter()
            with page_of(request, keys) as found:
                spent = (time.perf_counter() - start) * 1000
                response = JsonResponse(view(request, found, **arguments))
        except Gone:
            return JsonResponse({"error": "this page is not open any more: reload it"}, status=410)
        except NotEnough:
            return JsonResponse({"error": "there are not so many"}, status=409)
        except (TypeError, ValueError):
            return JsonResponse({"error": "no such method, or wrong parameters"}, status=400)
        # browsers show it beside the request
        response["Server-Timing"] = f'{found.origin};dur={spent:.3f};desc="process {os.getpid()}"'
        return response

    return answer


@require_POST
@of_page
def act(request: HttpRequest, page: StorePage, method: str) -> dict:
    """Runs a method of the page, and publishes what it has changed."""
    changes = page.call(method, json.loads(request.body or b"{}"))
    if changes:
        publish(changes)
    return page.shown()


@require_GET
@of_page
def poll(request: HttpRequest, page: StorePage) -> dict:
    """What others have changed since the last time."""
    changes = page.register.take(page.keys)
    return {"changes": changes or [], "reset": changes is None}


@require_POST
@of_page
def close(request: HttpRequest, page: StorePage) -> dict:
    """The tab has been closed."""
    page.register.close(page.keys)
    return {}


@require_GET
@login_required
def here(request: HttpRequest) -> HttpResponse:
    """Who is here, with how many pages."""
    return JsonResponse(Counter(register().pages().values()))
