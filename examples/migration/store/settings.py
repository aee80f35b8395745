"""Settings of Django, and those that a phase of the move changes: each is a variable of the environment."""

import os
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

HERE = Path(__file__).parent.parent

# The phase: which register is asked, whether changes are pushed, whether pages stay in memory.
STORE_REGISTER = os.environ.get("STORE_REGISTER", "daemon")
STORE_DAEMON = os.environ.get("STORE_DAEMON", "127.0.0.1:8700")
STORE_PUSH = os.environ.get("STORE_PUSH", "off") == "on"
STORE_RESIDENT = os.environ.get("STORE_RESIDENT", "off") == "on"

SECRET_KEY = os.environ["STORE_SECRET"]
if "STORE_PASSWORD_HASHER" in os.environ:
    # for tests, which log in often: the hashers of Django take half a second on purpose
    PASSWORD_HASHERS = [os.environ["STORE_PASSWORD_HASHER"]]
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


def database(named: str) -> dict:
    """Returns the settings of a file of SQLite, or of `postgresql://USER:PASSWORD@HOST:PORT/NAME`.

    With `?host=FOLDER` it is reached at its Unix socket.
    """
    if not named.startswith("postgresql://"):
        options = {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": named, "OPTIONS": options}
    given = urlsplit(named)
    folders = parse_qs(given.query).get("host", [])
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": given.path.removeprefix("/"),
        "USER": unquote(given.username or ""),
        "PASSWORD": unquote(given.password or ""),
        "HOST": folders[0] if folders else given.hostname or "",
        "PORT": str(given.port or ""),
        # a thread keeps its connection for the requests that follow
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


DATABASES = {"default": database(os.environ.get("STORE_DATABASE", str(HERE / "store.sqlite3")))}
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
