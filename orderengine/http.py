"""The HTTP application. asgi.py serves it beside the WebSockets, on Daphne; rest.py alone."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # before anything imports a model

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from orderengine.api_views import APIViews
from orderengine.headers import BrowserHeaders
from orderengine.repeated import RepeatedRequests

application = RepeatedRequests(
    BrowserHeaders(
        APIViews(ASGIStaticFilesHandler(django_application)), settings.CORS_ALLOWED_ORIGINS
    )
)
