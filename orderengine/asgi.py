"""HTTP and WebSocket on one port, served by Daphne."""

from orderengine import http  # sets Django up, before anything imports a model

# isort: split
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.sessions import CookieMiddleware, SessionMiddleware

from orderengine.access_log import keep_tickets_out
from orderengine.asgi_types import Message, Receive, Send
from orderengine.daphne_requests import serve_bounded_requests
from orderengine.daphne_sockets import serve_bounded_sockets
from orderengine.garbage import keep_what_is_loaded
from orderengine.stopping import Stoppable, stop_gracefully_on_signals
from orders.routing import websocket_urlpatterns

with_session: Any = CookieMiddleware(SessionMiddleware(URLRouter(websocket_urlpatterns)))


async def sockets(scope: Message, receive: Receive, send: Send) -> None:
    """The consumer sends by `send_frame`, past Channels' session, which looks at each frame
    whether to save itself: only an answer over HTTP makes it."""
    await with_session({**scope, "send_frame": send}, receive, send)


application = Stoppable(
    ProtocolTypeRouter(
        {
            "http": http.application,
            "websocket": sockets,
        }
    )
)
serve_bounded_requests()
serve_bounded_sockets()
keep_tickets_out()
keep_what_is_loaded()
stop_gracefully_on_signals(application)
