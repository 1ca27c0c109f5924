"""The HTTP application. asgi.py serves it beside the WebSockets, on Daphne; rest.py alone."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # before anything imports a model

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.exceptions import SuspiciousFileOperation
from django.http import FileResponse, Http404, HttpRequest, HttpResponse

from orderengine.api_views import APIViews
from orderengine.headers import BrowserHeaders
from orderengine.repeated import RepeatedRequests
from orders import problems, requestid


class StaticFiles(ASGIStaticFilesHandler):
    def serve(self, request: HttpRequest) -> HttpResponse | FileResponse:
        """A file outside the folder is none, and no fault of ours."""
        try:
            return super().serve(request)
        except (Http404, SuspiciousFileOperation):
            return requestid.around(problems.not_found)(request)


application = RepeatedRequests(
    BrowserHeaders(APIViews(StaticFiles(django_application)), settings.CORS_ALLOWED_ORIGINS)
)
