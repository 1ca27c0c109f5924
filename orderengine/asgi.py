"""HTTP and WebSocket on one port, served by Daphne."""

from orderengine import http  # sets Django up, before anything imports a model

# isort: split
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter

from orderengine.access_log import keep_tickets_out
from orderengine.daphne_requests import serve_bounded_requests
from orderengine.daphne_sockets import serve_bounded_sockets
from orderengine.garbage import keep_what_is_loaded
from orderengine.stopping import Stoppable, stop_gracefully_on_signals
from orders.routing import websocket_urlpatterns

application = Stoppable(
    ProtocolTypeRouter(
        {
            "http": http.application,
            "websocket": AuthMiddlewareStack(URLRouter(websocket_urlpatterns)),
        }
    )
)
serve_bounded_requests()
serve_bounded_sockets()
keep_tickets_out()
keep_what_is_loaded()
stop_gracefully_on_signals(application)
