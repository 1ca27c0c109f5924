"""HTTP and WebSocket on one port, served by Daphne."""

import gc
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orderengine.settings")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()  # before anything imports a model

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from orderengine.access_log import keep_tickets_out
from orderengine.async_views import AsyncViews
from orderengine.daphne_requests import serve_bounded_requests
from orderengine.daphne_sockets import serve_bounded_sockets
from orderengine.headers import BrowserHeaders
from orderengine.stopping import Stoppable, stop_gracefully_on_signals
from orders.routing import websocket_urlpatterns

application = Stoppable(
    ProtocolTypeRouter(
        {
            "http": BrowserHeaders(
                AsyncViews(ASGIStaticFilesHandler(django_application)),
                settings.CORS_ALLOWED_ORIGINS,
            ),
            "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
        }
    )
)
serve_bounded_requests()
serve_bounded_sockets()
keep_tickets_out()
# What is loaded stays: a collection that looks through it holds up all requests for 50 ms.
gc.collect()
gc.freeze()
gc.set_threshold(10_000, 20, 50)
stop_gracefully_on_signals(application)
