"""Settings of Django, and those that a phase of the move changes: each is a variable of the environment."""

import os
from pathlib import Path

HERE = Path(__file__).parent.parent

# The phase: which register is asked, whether changes are pushed, whether pages stay in memory.
STORE_REGISTER = os.environ.get("STORE_REGISTER", "daemon")
STORE_DAEMON = os.environ.get("STORE_DAEMON", "127.0.0.1:8700")
STORE_PUSH = os.environ.get("STORE_PUSH", "off") == "on"
STORE_RESIDENT = os.environ.get("STORE_RESIDENT", "off") == "on"

SECRET_KEY = os.environ["STORE_SECRET"]
ALLOWED_HOSTS = os.environ.get("STORE_HOSTS", "127.0.0.1,localhost").split(",")
ROOT_URLCONF = "store.urls"
STATIC_URL = "/static/"
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("STORE_DATABASE", HERE / "store.sqlite3"),
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "store",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
if STORE_PUSH:
    MIDDLEWARE.append("store.identity.same_user")
    AUTH_PASSWORD_VALIDATORS = [{"NAME": "store.identity.NewPassword"}]
TEMPLATES = [
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
]
