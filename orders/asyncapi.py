"""The AsyncAPI document: every frame of the WebSocket, in both directions."""

import json
from functools import cache
from pathlib import Path

from dex.venues.registry import VENUES, route_names

SOURCE = Path(__file__).with_name("asyncapi.yaml")


@cache
def document() -> str:
    """asyncapi.yaml with the venues that there are."""
    text = SOURCE.read_text()
    for mark, names in (("VENUES", list(VENUES)), ("ROUTE_NAMES", route_names())):
        text = text.replace(f"{{enum: {mark}}}", f"{{enum: {json.dumps(names)}}}")
    return text
