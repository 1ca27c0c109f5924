import json
from typing import Any, cast

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import path, re_path

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


# Channels' consumers stand where Django's types expect a view.
websocket_urlpatterns: list[Any] = [
    path("api/orders/execute", cast(Any, OrderConsumer.as_asgi())),
    re_path("", cast(Any, NothingHere.as_asgi())),
]
