"""The AsyncAPI document: every frame of the WebSocket, in both directions."""

import json
from functools import cache
from pathlib import Path

from dex.venues.registry import VENUES, route_names

SOURCE = Path(__file__).with_name("asyncapi.yaml")


def document(host: str = "localhost:3000", *, secure: bool = False) -> str:
    """asyncapi.yaml, for who asks this host, with the venues that there are."""
    server = f"host: {json.dumps(host)}\n    protocol: {'wss' if secure else 'ws'}\n"
    return with_venues().replace("host: localhost:3000\n    protocol: ws\n", server)


@cache
def with_venues() -> str:
    text = SOURCE.read_text()
    for mark, names in (("VENUES", list(VENUES)), ("ROUTE_NAMES", route_names())):
        text = text.replace(f"{{enum: {mark}}}", f"{{enum: {json.dumps(names)}}}")
    return text
