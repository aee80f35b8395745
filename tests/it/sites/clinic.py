"""A Django site in one file, with its admin, its static files and a database in the file that CLINIC_DATABASE names.

CLINIC_PATH is the path that the site is below, and CLINIC_STATIC a folder for its static files.
"""

import os

import django
from django.conf import settings

settings.configure(
    DEBUG=True,
    SECRET_KEY="of this test",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    STATIC_URL=os.environ.get("CLINIC_PATH", "") + "/static/",
    STATIC_ROOT=os.environ.get("CLINIC_STATIC"),
    USE_TZ=True,
    # a fast one, because this site has no secrets
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["CLINIC_DATABASE"]}},
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
)
django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.staticfiles.views import serve  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402

call_command("migrate", verbosity=0)
if settings.STATIC_ROOT:
    call_command("collectstatic", interactive=False, verbosity=0)
if not get_user_model().objects.exists():
    get_user_model().objects.create_superuser("ann", "ann@example.org", "secret of ann")

urlpatterns = [path("admin/", admin.site.urls), path("static/<path:path>", serve, {"insecure": True})]
application = get_wsgi_application()
