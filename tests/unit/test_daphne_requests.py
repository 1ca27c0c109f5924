"""Of a body that is too long Daphne keeps what shows that it is."""

import io

import pytest
from daphne import http_protocol

import orderengine.asgi  # noqa: F401  (as a web process: it sets the bound)
from orderengine.daphne_requests import KEPT_BYTES


@pytest.mark.parametrize("chunks", [[10], [KEPT_BYTES - 1], [KEPT_BYTES * 9], [100_000] * 50])
def test_so_much_of_a_body_is_kept(chunks: list[int]) -> None:
    request = object.__new__(http_protocol.WebRequest)
    request.content = io.BytesIO()

    for size in chunks:
        request.handleContentChunk(b"x" * size)

    assert len(request.content.getvalue()) == min(sum(chunks), KEPT_BYTES)
