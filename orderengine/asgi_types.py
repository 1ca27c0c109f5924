"""What an ASGI application is called with."""

from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]  # a scope as well
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[..., Awaitable[None]]
