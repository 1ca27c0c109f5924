"""An application with nothing behind it: server.py measures what is left."""

from typing import Any

ANSWER = b'{"orderId":"ord_1795867743135_7ab5zwkcem","status":"pending"}'


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers what a POST of an order is answered, whatever it is asked."""
    while (await receive()).get("more_body", False):
        pass
    status = 201 if scope["method"] == "POST" else 200
    length = (b"content-length", b"%d" % len(ANSWER))
    headers = [(b"content-type", b"application/json"), length]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})
