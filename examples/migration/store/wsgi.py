"""The application, for any WSGI server: gunicorn store.wsgi, or a mount of Pagewire."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "store.settings")
application = get_wsgi_application()
