import json

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import URLPattern, path, re_path

from orders.consumers import OrderConsumer
from orders.problems import Problem


class NothingHere(AsyncWebsocketConsumer):
    """A socket to any other path is told so."""

    channel_layer_alias = ""

    async def connect(self) -> None:
        await self.accept()
        detail = "WebSockets are served at /api/orders/execute."
        frame = Problem(status=404, code="NOT_FOUND", detail=detail).as_frame()
        await self.send(text_data=json.dumps(frame))
        await self.close(4404)


websocket_urlpatterns: list[URLPattern] = [
    path("api/orders/execute", OrderConsumer.as_asgi()),  # type: ignore[arg-type]
    re_path("", NothingHere.as_asgi()),  # type: ignore[arg-type]
]
